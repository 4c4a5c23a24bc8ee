"""Texts of CSV files that a spreadsheet would read as formulas."""

import csv
import json

import numpy as np
import pyarrow as pa
import pytest

from stemlab.analysis.base import Matrix
from stemlab.analysis.output import write_csv
from stemlab.data.io.csv_cells import escape_formula
from stemlab.inference.table_io import table_writer
from stemlab.reporting.render import as_csv

TEXTS = ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "a=1", "", "'=1"]
ESCAPED = ["'=1+1", "'+1", "'-1", "'@SUM(A1)", "'\t=1", "a=1", "", "'=1"]


def test_only_texts_are_escaped():
    assert [escape_formula(text) for text in TEXTS] == ESCAPED
    assert [escape_formula(value) for value in (-1, -0.5, None)] == [-1, -0.5, None]


@pytest.mark.parametrize(("escape", "texts", "name"), [(True, ESCAPED, "'=b"), (False, TEXTS, "=b")])
def test_predictions(tmp_path, escape, texts, name):
    path = tmp_path / "scores.csv"
    numbers = [-float(i) for i in range(len(TEXTS))]
    with table_writer(path, escape=escape) as write:
        write(pa.table({"a": TEXTS, "=b": numbers}))
        write(pa.table({"a": TEXTS[:1], "=b": numbers[1:2]}))
    head, *rows = csv.reader(path.open(newline=""))
    assert head == ["a", name]
    assert [row[0] for row in rows] == [*texts, texts[0]]
    assert [float(row[1]) for row in rows] == [*numbers, -1.0]


def test_integers_beside_a_missing_value_keep_all_digits(tmp_path):
    path, ids = tmp_path / "scores.csv", [2**53 + 1, None, 7]
    with table_writer(path) as write:
        write(pa.table({"id": pa.array(ids, pa.int64()), "seen": [True, None, False]}))
    assert path.read_text() == f"id,seen\n{2**53 + 1},True\n,\n7,False\n"


def test_long_lists_are_not_shortened(tmp_path):
    path, lists = tmp_path / "scores.csv", [list(range(3000)), None, []]
    with table_writer(path) as write:
        write(pa.table({"items": pa.array(lists), "words": [["a", "é"], [], None]}))
    head, *rows = csv.reader(path.open(encoding="utf-8", newline=""))
    assert head == ["items", "words"]
    assert [[json.loads(cell) if cell else None for cell in row] for row in rows] == [
        [lists[0], ["a", "é"]],
        [None, []],
        [[], None],
    ]


@pytest.mark.parametrize(("escape", "name"), [(True, "'=x"), (False, "=x")])
def test_reports_and_analyses(tmp_path, escape, name):
    head, row = csv.reader(as_csv([{"model": "=x", "=x": -1.5}], escape=escape).splitlines())
    assert (head, row) == (["model", name], [name, "-1.5"])
    write_csv(tmp_path / "m.csv", Matrix(["=x"], ["=x"], np.array([[-1.0]]), "field"), escape=escape)
    assert list(csv.reader((tmp_path / "m.csv").open())) == [["field", name], [name, "-1.0"]]

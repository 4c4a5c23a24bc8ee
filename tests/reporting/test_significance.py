"""Rows of a report table compared with the best one, and the table as LaTeX and HTML."""

import math
import re

import numpy as np
import pytest

from stemlab.reporting.formats import as_html, as_latex
from stemlab.reporting.significance import over_seeds
from stemlab.reporting.statistics import blocked_t, holm


def seeds(*values):
    return dict(enumerate(values, 1))


def test_rows_are_tested_against_the_best_one():
    rows = [
        {"auc": seeds(0.80, 0.81, 0.82), "logloss": seeds(0.5, 0.5, 0.6)},
        {"auc": seeds(0.799, 0.812, 0.821), "logloss": seeds(0.4, 0.5, 0.5)},
        {"auc": seeds(0.70, 0.711, 0.72), "logloss": seeds(0.9, 0.9, 1.1)},
    ]
    found = over_seeds(["auc", "logloss"], rows, ["a"] * 3)
    assert found.best == {(1, "auc"), (1, "logloss")}
    assert [found.is_best(row, "auc") for row in range(3)] == [True, True, False]
    matrix = np.array([[*row["auc"].values()] for row in rows])
    single = [blocked_t(matrix, row, 1)[0].p for row in (0, 2)]
    assert [found.cells[row, "auc"].test.p for row in (0, 2)] == pytest.approx(single)
    every = [found.cells[key].test.p for key in found.cells]
    assert [cell.adjusted for cell in found.cells.values()] == pytest.approx(holm(every))
    assert found.flat(1, ["auc"]) == {
        "auc among best": True,
        "auc difference from best": 0.0,
        "auc adjusted p": None,
    }
    assert found.flat(2, ["auc"])["auc difference from best"] == pytest.approx(-0.1003333, abs=1e-6)
    assert found.detectable["auc"] > 0


def test_only_rows_on_the_same_data_are_compared():
    rows = [{"auc": seeds(0.9, 0.9)}, {"auc": seeds(0.5, 0.51)}, {"auc": seeds(0.4, 0.41)}]
    found = over_seeds(["auc"], rows, ["a", "b", "b"])
    assert found.best == {(1, "auc")}
    assert set(found.cells) == {(2, "auc")}


def test_without_common_seeds_nothing_is_marked():
    for others in (seeds(0.7), {7: 0.7, 8: 0.8}, {}):
        found = over_seeds(["auc"], [{"auc": seeds(0.8, 0.9)}, {"auc": others}], ["a", "a"])
        assert (found.best, found.cells, found.detectable) == (frozenset(), {}, {})
        assert not found.is_best(0, "auc")
        assert found.untested == (["auc"] if others else [])


def test_a_row_with_other_seeds_is_compared_on_the_common_ones():
    rows = [{"auc": seeds(0.8, 0.9, 0.85)}, {"auc": seeds(0.7, 0.9, 0.8)}, {"auc": seeds(0.79, 0.88)}]
    found = over_seeds(["auc"], rows, ["a"] * 3)
    expected = blocked_t([[0.79, 0.88], [0.8, 0.9]], 0, 1)[0]
    assert found.cells[2, "auc"].test == pytest.approx(expected) or found.cells[2, "auc"].test == expected


def test_metrics_without_direction_are_not_tested():
    found = over_seeds(["calibration"], [{"calibration": seeds(1, 2)}, {"calibration": seeds(2, 1)}], ["a", "a"])
    assert not found.cells
    assert not math.isnan(found.level)


CELLS = [["model", "like AUC", "seeds"], ["a_b & c", "**0.8 ± 0.1**", "3"], ["<x>", "–", "1,200"]]


def test_latex():
    text = as_latex(CELLS, "50 % of it", ["A note."], "my_table")
    assert r"\begin{tabular}{lrr}" in text
    assert r"a\_b \& c & \textbf{0.8 $\pm$ 0.1} & 3 \\" in text
    assert r"\caption{50 \% of it}" in text
    assert r"\label{tab:my-table}" in text
    assert text.count("rule") == 3


def test_a_wide_latex_table_continues_below():
    head = ["model", *(f"task_{number} AUC" for number in range(9))]
    text = as_latex([head, ["stem", *("**0.8208 ± 0.0003**",) * 9]], "caption", [], "wide")
    blocks = text.split(r"\begin{tabular}")[1:]
    assert [block.count("stem & ") for block in blocks] == [1, 1, 1]
    assert [block.splitlines()[2].count("AUC") for block in blocks] == [4, 4, 1]
    assert re.findall(r"task\\_(\d) AUC", text) == [str(number) for number in range(9)]
    assert text.count(r"\begin{table}") == text.count(r"\caption") == 1


def test_html():
    text = as_html([(CELLS, "caption", ["note"])], "results")
    assert "<b>0.8 ± 0.1</b>" in text
    assert "&lt;x&gt;" in text
    assert not re.search(r"https?:|<script", text)
    assert text.count("<tr>") == 3

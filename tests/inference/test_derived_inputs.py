"""Derived columns in rows to score, and in the encoder of exported models."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from stemlab.data.sources.table import TableDataModule
from stemlab.errors import StemlabError
from stemlab.inference.export.encode import EncodingError
from stemlab.inference.export.made_up_rows import impression_rows
from stemlab.inference.export.rules import impression_rules
from stemlab.inference.input_cells import InputCells
from tests.data.table.test_derived_columns import ROWS, data, write
from tests.inference.test_export_encoder import assert_same, encoder_of

DERIVED = (
    "{pair: {cross: [user, surface]}, cell: {cross: [surface, age]}, log_price: {log1p: price}, "
    "age_group: {buckets: age, edges: [18, 40.5]}, price_q: {buckets: price, quantiles: 3}}"
)
TEXTS = [
    "",
    " ",
    "7",
    "18",
    "2.0",
    "40.5",
    "-1",
    "-2",
    "inf",
    "-Infinity",
    "nan",
    "a",
    "a&b",
    "a\\",
    "5.0&",
    "1e3",
    "True",
]
CELLS = st.one_of(st.none(), st.sampled_from(TEXTS), st.booleans(), st.integers(-3, 50), st.floats(-2, 99))


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder = tmp_path_factory.mktemp("derived")
    write(folder, [*ROWS, ("a&b", "feed", "99", "11.5", 1), ("a", "b&", "18", "3", 0)] * 10)
    words = [f"dataset.derived={DERIVED}", "dataset.fields=[user,pair,cell,age_group,price_q]"]
    made = data(folder, *words, "dataset.scaling=standard")
    made.prepare()
    return made


def test_made_up_rows_have_known_and_unknown_values(prepared: Any) -> None:
    rules = impression_rules(prepared, prepared.spec)
    columns = impression_rows(rules, (), count=40)
    assert set(columns) == {"user", "surface", "age", "price"}
    assert_same(prepared, pa.table({name: pa.array(cells, pa.string()) for name, cells in columns.items()}), columns)
    ids = encoder_of(prepared)(columns)["ids"]
    for column, field in enumerate(rules["fields"]):
        known = ids[:, column] < field["out_of_vocabulary"]
        assert 0 < known.mean() < 1, field["name"]


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    cells=st.lists(CELLS, min_size=1, max_size=5),
    kind=st.sampled_from([str, bool, int, float]),
    changed=st.sampled_from(["user", "surface", "age", "price"]),
)
def test_any_cells_are_derived_alike(prepared: Any, cells: list[Any], kind: type, changed: str) -> None:
    typed = [cell if type(cell) is kind else None for cell in cells]
    arrow = {str: pa.string(), bool: pa.bool_(), int: pa.int64(), float: pa.float64()}[kind]
    columns: dict[str, list[Any]] = {"user": ["u1"], "surface": ["feed"], "age": ["18"], "price": ["2.5"]}
    columns = {name: values * len(cells) for name, values in columns.items()} | {changed: typed}
    arrays = {name: pa.array(values, arrow if name == changed else pa.string()) for name, values in columns.items()}
    assert_same(prepared, pa.table(arrays), columns)


def test_a_cell_without_logarithm_is_refused_skipped_or_missing(prepared: Any) -> None:
    price = ["2.5", "-1", "x", "", "inf"]
    table = pa.table({"user": ["u1"] * 5, "surface": ["feed"] * 5, "age": ["18"] * 5, "price": price})
    lines = np.arange(2, 7)
    with pytest.raises(StemlabError, match=r"rows.csv, line 3.*'price'.*'-1'.*'log_price'.*on_bad_cell"):
        InputCells(prepared, prepared.spec, "error", None).clean(table, "rows.csv", lines, "line")
    skipping = InputCells(prepared, prepared.spec, "skip", None)
    kept, kept_B = skipping.clean(table, "rows.csv", lines, "line")
    assert kept_B.tolist() == [True, False, False, True, False]
    assert skipping.facts()["bad_cells"] == {"price": 3}
    replacing = InputCells(prepared, prepared.spec, "default", None)
    dense = prepared.encode(replacing.clean(table, "rows.csv", lines, "line")[0]).dense_BN[:, 0].tolist()
    assert dense[1:] == [0.0] * 4  # the mean
    np.testing.assert_array_equal(prepared.encode(kept).dense_BN[:, 0], [dense[0], dense[3]])
    with pytest.raises(EncodingError, match=r"'price'.*'-1'"):
        encoder_of(prepared)({name: table[name].to_pylist() for name in table.column_names})


def test_columns_of_a_class_are_not_exported(prepared: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(TableDataModule, "has_own_columns", True)
    with pytest.raises(StemlabError, match="derive"):
        impression_rules(prepared, prepared.spec)


def test_a_cell_is_counted_once(tmp_path: Path) -> None:
    write(tmp_path)
    made = data(tmp_path, "dataset.numericals=[price,log_price]")
    made.prepare()
    cells = InputCells(made, made.spec, "skip", None)
    table = pa.table({"user": ["u1"] * 2, "surface": ["feed"] * 2, "age": ["18"] * 2, "price": ["x", "-5"]})
    cells.clean(table, "rows.csv", np.arange(2), "line")
    assert cells.facts()["bad_cells"] == {"price": 2}

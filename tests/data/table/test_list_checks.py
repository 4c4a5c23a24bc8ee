"""Text cells with several values that the separator of the description does not divide."""

import logging
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from stemlab.data.table.list_checks import check_separators
from stemlab.data.table.list_settings import ListRole
from stemlab.data.table.lists import split_lists
from stemlab.errors import StemlabError

ROLE = ListRole(
    name="tags", values="tags", key="dataset.multivalued.tags", separator="|", max_length=3, newest=False, table=None
)


def check(cells: list[str | None], encoded: bool = False) -> None:
    column = pa.array(cells, pa.large_string()).dictionary_encode() if encoded else pa.array(cells, pa.string())
    check_separators([ROLE], {"tags": pa.chunked_array([column])}, Path("rows.csv"))


@pytest.mark.parametrize("cells", [['["a", "b"]', None, "[]", '["c"]'], ["['a' 'b']", "['b']"], ["{a,b}", "{b}"]])
@pytest.mark.parametrize("encoded", [False, True])
def test_lists_in_brackets_are_refused(cells: list[str | None], encoded: bool) -> None:
    with pytest.raises(StemlabError, match=r"rows\.csv.*'tags' .dataset\.multivalued\.tags. .*a\|b"):
        check(cells, encoded)


def test_another_separator_is_warned_of(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        check(["a;b", "b;c;a", None, "a", "c;b"])
    assert "tags.separator='|'" in caplog.text
    assert "separated by ';'" in caplog.text


@pytest.mark.parametrize("cells", [["a|b", "b|c|a", "a;b", "a"], ["a", "b", None], [None, ""], ["x, y", "z, w"]])
def test_cells_that_fit_pass(cells: list[str | None], caplog: pytest.LogCaptureFixture) -> None:
    check(cells)
    check_separators([ROLE], {"tags": pa.chunked_array([pa.array([["[a]"], ["[b]"]])])}, Path("rows.parquet"))
    assert not caplog.text


@pytest.mark.parametrize("cells", [[[["a"]], None], [[{"a": 1}]], [{"a": 1}]])
def test_values_that_are_lists_or_structures_are_refused(cells: list[Any]) -> None:
    with pytest.raises(StemlabError, match=r"'tags' has cells of type .*single values"):
        split_lists(ROLE, {"tags": pa.chunked_array([pa.array(cells)])}, [""])

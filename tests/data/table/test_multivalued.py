"""Columns whose cells hold several values are recognised; texts, dates and numbers are not."""

import numpy as np
import pyarrow as pa
import pytest

from stemlab.data.table.multivalued import list_form

RNG = np.random.default_rng(0)
GENRES = ("Action", "Comedy", "Drama", "Horror", "Sci-Fi")


def lists(separator: str, values: tuple[str, ...] = GENRES, least: int = 1) -> list[str]:
    return [separator.join(RNG.choice(values, RNG.integers(least, 4), replace=False)) for _ in range(50)]


@pytest.mark.parametrize("separator", ["|", ";", ",", "^", "\x01", ", ", " | "])
def test_lists_of_words(separator):
    assert list_form(pa.array(lists(separator))) == f"separated by {separator.strip()!r}"


@pytest.mark.parametrize("separator", ["|", ";", ",", " "])
def test_lists_of_ids(separator):
    ids = tuple(str(n) for n in range(1000))
    assert list_form(pa.array(lists(separator, ids))) == f"separated by {separator!r}"


@pytest.mark.parametrize("cells", [["a|b|c", "a|b", "c"], ["a|b", "b|c", "d|a"], ["a|b|c", "d|e|f", "g|h|i"]])
def test_few_cells(cells):
    assert list_form(pa.array(cells)) == "separated by '|'"


@pytest.mark.parametrize(("opening", "closing"), ["[]", "{}", "()"])
def test_brackets(opening, closing):
    cells = [f"{opening}{n}, {n + 1}{closing}" for n in range(9)]
    assert list_form(pa.array(cells)) == f"in {opening}{closing}"


@pytest.mark.parametrize(
    "cells",
    [
        ["Action", "Comedy", "Drama"],
        ["New York", "San Francisco", "Los Angeles", "Rome"],
        ["3,14", "2,5", "7", "10,25"],
        ["Electronics/Phones", "Electronics/TV", "Books/Novels"],
        ["2024-05-01 10:00:00", "2024-05-01 11:00:00"],
        ["Doe, John", "Roe, Jane", "Poe, Mary"],
        ["10.0.0.1", "10.0.0.2"],
        ["one of many; the first", "alone", "no lists"],
        [f"the {n}th row" for n in range(50)],
        ["", None],
    ],
)
def test_single_values(cells):
    assert list_form(pa.array(cells, pa.string())) is None

"""Raw rows made up from the vocabularies: examples for the trace, and for the comparison with ``stemlab.predict``.

Each column has known, rare and missing values in turn.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

ROWS = 32
"""Rows that are made up."""
_UNSEEN = "value-not-in-training"


def impression_rows(rules: Mapping[str, Any], scenarios: Sequence[str], count: int = ROWS) -> dict[str, list[Any]]:
    """Return columns of raw rows.

    Args:
        rules: content of ``encoder.json``.
        scenarios: names of the scenarios.
        count: number of rows.
    """
    rng = np.random.default_rng(0)
    columns: dict[str, list[Any]] = {}
    for field in rules["fields"]:
        tokens: list[Any] = [*rules["vocabularies"][field["vocabulary"]][:count], _UNSEEN, None]
        if field["padding"]:
            tokens.append(field["padding"])
        columns[field["name"]] = [tokens[index] for index in rng.integers(0, len(tokens), count)]
    lists, longest = (rules["lists"] or {}).get("columns", ()), dict[str, int]()
    for column in lists:  # two sequences may read the same column
        longest[column["values"]] = max(column["max_length"], longest.get(column["values"], 0))
    for column in lists:
        columns |= _list_columns(rules, column, longest[column["values"]], count)
    for column in rules["numericals"]:
        drawn = column["mean"] + column["scale"] * rng.normal(size=count)
        columns[column["name"]] = [None if row % 7 == 3 else repr(float(x)) for row, x in enumerate(drawn)]
    if rules["scenario"] is not None:
        columns[rules["scenario"]["column"]] = [scenarios[row % len(scenarios)] for row in range(count)]
    return columns


def _list_columns(
    rules: Mapping[str, Any], column: Mapping[str, Any], longest: int, count: int
) -> dict[str, list[Any]]:
    """Return cells of text with lists of all lengths up to two above the longest, and what belongs to the values."""
    rng = np.random.default_rng(1)
    vocabulary = {field["name"]: rules["vocabularies"][field["vocabulary"]] for field in rules["lists"]["fields"]}
    tokens = [*vocabulary[column["name"]][:count], _UNSEEN]
    lengths = [row % (longest + 3) for row in range(count)]
    drawn: dict[str, list[list[Any]]] = {
        column["values"]: [[tokens[index] for index in rng.integers(0, len(tokens), length)] for length in lengths]
    }
    if column["categories"]:
        names = [*vocabulary[column["category_field"]][:count], _UNSEEN]
        drawn[column["categories"]] = [[names[index] for index in rng.integers(0, len(names), n)] for n in lengths]
    if column["weights"]:
        drawn[column["weights"]] = [rng.random(length).round(3).tolist() for length in lengths]
    if column["times"]:
        drawn[column["times"]] = [np.cumsum(rng.integers(0, 99_999, length)).tolist() for length in lengths]
    return {name: [column["separator"].join(map(str, cells)) or None for cells in rows] for name, rows in drawn.items()}


def sequence_rows(rules: Mapping[str, Any], count: int = ROWS, candidates: int = 5) -> list[dict[str, Any]]:
    """Return rows with user, items, times and candidates; histories of all lengths up to one above the longest.

    Args:
        rules: content of ``encoder.json``.
        count: number of rows.
        candidates: candidates of a row.
    """
    rng = np.random.default_rng(0)
    items, users, most = rules["items"], rules["users"], rules["history_max"]
    rows = []
    for row in range(count):
        length = most + 1 if row == 0 else 1 + row % most
        rows.append(
            {
                "user": users[row % len(users)],
                "items": [items[index] for index in rng.integers(0, len(items), length)],
                "times": np.cumsum(rng.integers(0, 100_000, length)).tolist(),
                "candidates": [items[index] for index in rng.integers(0, len(items), candidates)],
            }
        )
    return rows

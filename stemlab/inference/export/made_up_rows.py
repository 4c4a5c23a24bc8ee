"""Raw rows made up from the vocabularies: examples for the trace, and for the comparison with ``stemlab.predict``.

Each column has known, rare and missing values in turn.
"""

from __future__ import annotations

import re
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
    derived = {column["name"]: column for column in rules.get("derived") or ()}
    for field in rules["fields"]:
        if field["name"] in derived:
            continue
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
        if column["name"] in derived:
            drawn = np.expm1(drawn.clip(-30, 80))
        name = derived[column["name"]]["sources"][0] if column["name"] in derived else column["name"]
        columns[name] = [None if row % 7 == 3 else repr(float(x)) for row, x in enumerate(drawn)]
    for number, column in enumerate(derived.values()):
        own = range(number, count, len(derived) + 1)  # crosses may have the same sources
        _add_sources(columns, column, rules["vocabularies"].get(column["name"], ()), own, count)
    if rules["scenario"] is not None:
        columns[rules["scenario"]["column"]] = [scenarios[row % len(scenarios)] for row in range(count)]
    return columns


def _add_sources(
    columns: dict[str, list[Any]], column: Mapping[str, Any], vocabulary: Sequence[str], own: range, count: int
) -> None:
    """Add the source columns of a cross or of buckets; changes the columns.

    Args:
        columns: columns of raw rows.
        column: the derived column.
        vocabulary: its known values.
        own: rows in which a cross has a known value.
        count: number of rows.
    """
    rng = np.random.default_rng(2)
    new = column["sources"][0] not in columns
    made = {name: [*columns.get(name, [_UNSEEN, None] * count)][:count] for name in column["sources"]}
    if column["kind"] == "cross" and vocabulary:
        pairs = [re.findall(r"(?:\\.|[^&\\])+", vocabulary[int(rng.integers(0, len(vocabulary)))]) for _ in own]
        for row, pair in zip(own, pairs, strict=True):
            for name, part in zip(made, pair, strict=False):
                made[name][row] = re.sub(r"\\(.)", r"\1", part)
    elif column["kind"] == "buckets" and new:
        edges = column["edges"]
        near = [edges[0] - 1.0, *edges, *(edge + 0.5 for edge in edges)]
        for row in (row for row in range(count) if row % 3):
            made[column["sources"][0]][row] = repr(float(near[rng.integers(0, len(near))]))
    columns |= made


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

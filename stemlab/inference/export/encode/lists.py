"""Lists of values per row -> blocks of ids, ages and weights. Needs only NumPy.

Legend: B rows, K ids of all lists, W weights of all lists.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from .cells import EXACT_INTEGERS, WHOLE_FLOAT, CellReader, EncodingError, cells_of, is_null

Values = dict[str, list[Any]]
"""Field, or field and kind -> kept values of one row."""
_LARGEST_AGE = 2**31 - 1


class ListEncoder:
    """Columns of lists -> ``lists`` (B, K) int32 and ``list_weights`` (B, W) float32.

    Args:
        rules: the entry ``lists`` of ``encoder.json``: columns and fields.
        cells: reader of single values.
        ids: vocabulary -> token -> id.
    """

    def __init__(self, rules: Mapping[str, Any], cells: CellReader, ids: Mapping[str, Mapping[str, int]]) -> None:
        self._columns, self._fields = rules["columns"], rules["fields"]
        self._cells, self._ids = cells, ids

    def __call__(self, rows: Any) -> dict[str, Any]:
        """Return both inputs; an empty list and missing values are padding.

        Raises:
            EncodingError: a column is missing or has a value that ``stemlab.predict`` refuses.
        """
        parsed: list[Values] = []
        for column in self._columns:
            found = self._parse(rows, column)
            parsed = [one | two for one, two in zip(parsed, found, strict=True)] if parsed else found
        ids, weights = [], []
        for field in self._fields:
            known, oov, width = self._ids[field["vocabulary"]], field["out_of_vocabulary"], field["max_length"]
            name = field["name"]
            tokens = [[known.get(token, oov) if token else 0 for token in row[name]] for row in parsed]
            ids.append(_padded(tokens, width, np.int32))
            if field["times"]:
                ids.append(_padded([row[f"{name} ages"] for row in parsed], width, np.int32))
            if field["weighted"]:
                weights.append(_padded([row[f"{name} weights"] for row in parsed], width, np.float32))
        inputs = {"lists": np.concatenate(ids, axis=1)}
        return inputs | ({"list_weights": np.concatenate(weights, axis=1)} if weights else {})

    def _parse(self, rows: Any, column: Mapping[str, Any]) -> list[Values]:
        """Return the kept values of each row, of one list and of what belongs to it."""
        names = {kind: column[kind] for kind in ("values", "categories", "weights", "times") if column[kind]}
        read = {kind: cells_of(rows, name) for kind, name in names.items()}
        exact = read["values"][1]
        cells = {kind: [self._flat(cell, column["separator"]) for cell in values] for kind, (values, _) in read.items()}
        return [
            self._row(number, column, {kind: values[number - 1] for kind, values in cells.items()}, exact)
            for number in range(1, len(cells["values"]) + 1)
        ]

    def _flat(self, cell: Any, separator: str) -> list[Any]:
        """Return the values of a cell; missing values are None."""
        if isinstance(cell, np.ndarray):
            cell = cell.tolist()
        if isinstance(cell, list | tuple):
            values = list(cell)
        elif is_null(cell) or (isinstance(cell, str) and (cell in self._cells.missing or not cell.strip())):
            return []
        else:
            values = cell.strip().split(separator) if isinstance(cell, str) else [cell]
        return [
            None if is_null(value) or (isinstance(value, str) and value in self._cells.missing) else value
            for value in values
        ]

    def _row(self, number: int, column: Mapping[str, Any], cells: Mapping[str, list[Any]], exact: int) -> Values:
        name, count = column["name"], len(cells["values"])
        for kind, values in cells.items():
            if len(values) != count:
                shorter = f"{column[kind]!r} has {len(values)} values and {column['values']!r} has {count}"
                raise EncodingError(f"row {number}: column {shorter}: each value needs one.")
        tokens = [self._token(column["values"], value, exact) for value in cells["values"]]
        given = [place for place, token in enumerate(tokens) if token]
        kept = given[-column["max_length"] :] if column["newest"] else given[: column["max_length"]]
        found: Values = {name: [tokens[place] for place in kept]}
        if column["categories"]:
            categories = [self._token(column["categories"], cells["categories"][place], exact) for place in kept]
            found[column["category_field"]] = categories
        if column["weights"]:
            weights = {place: self._weight(number, column["weights"], cells["weights"][place]) for place in given}
            found[f"{name} weights"] = [weights[place] for place in kept]
        if column["times"]:
            times = {place: _integer(number, column["times"], cells["times"][place]) for place in given}
            if any(times[after] < times[before] for before, after in itertools.pairwise(given)):
                raise EncodingError(f"row {number}: the times in column {column['times']!r} are not oldest first.")
            unit = 1000 if column["time_unit"] == "ms" else 1
            ages = [(times[kept[-1]] - times[place]) // unit for place in kept]
            found[f"{name} ages"] = [min(age, _LARGEST_AGE) for age in ages]
        return found

    def _token(self, name: str, value: Any, exact: int) -> str:
        return self._cells.token(name, value, exact).strip()

    def _weight(self, number: int, name: str, value: Any) -> float:
        weight = self._cells.number(name, value)
        if not 0 <= weight < math.inf:
            raise EncodingError(f"row {number}: column {name!r} has {value!r}, which is not a number of at least 0.")
        return weight


def _integer(number: int, name: str, value: Any) -> int:
    text = value.strip() if isinstance(value, str) else value
    whole = WHOLE_FLOAT.fullmatch(text) if isinstance(text, str) else None
    try:
        exact = isinstance(text, float) and not (text.is_integer() and abs(text) <= EXACT_INTEGERS)
        if text is not None and not isinstance(text, bool) and not exact:
            return int(whole[1] if whole else text)
    except ValueError:
        pass
    raise EncodingError(f"row {number}: column {name!r} has {value!r}, which is not an integer.")


def _padded(rows: list[list[Any]], width: int, kind: Any) -> Any:
    """Return the rows right-padded with 0, (B, width)."""
    result = np.zeros((len(rows), width), dtype=kind)
    for number, values in enumerate(rows):
        result[number, : len(values)] = values
    return result

"""Columns that are computed from those of the rows: crosses, logarithms, buckets. Needs only NumPy."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from .cells import WHOLE_FLOAT, CellReader, EncodingError, cells_of, is_null

_INFINITE = re.compile(r"(-?)inf(inity)?", re.IGNORECASE)
_BETWEEN, _ESCAPED = "&", ("\\", "&")  # as in the dataset


class DerivedCells:
    """Cells of derived columns.

    Args:
        rules: the entry ``derived`` of ``encoder.json``.
        cells: reader of single values.
    """

    def __init__(self, rules: Sequence[Mapping[str, Any]], cells: CellReader) -> None:
        self._rules, self._cells = {rule["name"]: rule for rule in rules}, cells

    def __contains__(self, name: str) -> bool:
        return name in self._rules

    def __call__(self, rows: Any, name: str) -> list[Any]:
        """Return the cells of a derived column.

        Raises:
            EncodingError: a source column is missing, or a number has no logarithm.
        """
        rule = self._rules[name]
        sources = [cells_of(rows, source)[0] for source in rule["sources"]]
        if rule["kind"] == "cross":
            return [self._cross(row) for row in zip(*sources, strict=True)]
        if rule["kind"] == "log1p":
            return [self._logarithm(rule["sources"][0], value) for value in sources[0]]
        numbers = np.array([self._number(rule["sources"][0], value) for value in sources[0]], dtype=np.float64)
        places = np.searchsorted(np.array(rule["edges"], dtype=np.float64), numbers, side="right")
        return [
            None if math.isnan(number) else rule["names"][place] for number, place in zip(numbers, places, strict=True)
        ]

    def _cross(self, values: Sequence[Any]) -> str | None:
        tokens = [self._token(value) for value in values]
        texts = [token for token in tokens if token is not None]
        for mark in _ESCAPED:
            texts = [text.replace(mark, f"\\{mark}") for text in texts]
        return _BETWEEN.join(texts) if len(texts) == len(tokens) else None

    def _token(self, value: Any) -> str | None:
        if is_null(value) or (isinstance(value, str) and value in self._cells.missing):
            return None
        if isinstance(value, str):
            whole = WHOLE_FLOAT.fullmatch(value)
            return whole[1] if whole else value
        if isinstance(value, bool):
            return str(value).lower()
        return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)

    def _logarithm(self, name: str, value: Any) -> float:
        number = self._cells.number(name, value)
        if math.isnan(number):
            return math.nan
        if not -1 < number < math.inf:
            raise EncodingError(f"column {name!r} has {value!r}, of which 1 + x has no logarithm.")
        return float(np.log1p(number))

    def _number(self, name: str, value: Any) -> float:
        """Return the number of a cell, NaN if it is missing or no number."""
        found = _INFINITE.fullmatch(value.strip()) if isinstance(value, str) else None
        if found:
            return math.nan if value in self._cells.missing else float(f"{found[1]}inf")
        try:
            return self._cells.number(name, value)
        except EncodingError:
            return math.nan

"""Cells of raw rows -> tokens and numbers. Needs only NumPy."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any

import numpy as np

WHOLE_FLOAT = re.compile(r"(-?[0-9]+)\.0+")
_NUMBER = re.compile(r"-?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?")
_EXACT = {np.dtype(np.float16): 1 << 11, np.dtype(np.float32): 1 << 24}  # largest integers of float columns
EXACT_INTEGERS = 1 << 53
"""Largest integer that a Python float holds exactly."""


class EncodingError(ValueError):
    """A row that the model cannot read."""


class CellReader:
    """Reads single cells.

    Args:
        rules: the entry ``cells`` of ``encoder.json``.
    """

    def __init__(self, rules: Mapping[str, Any]) -> None:
        self._cells, self.missing = rules, frozenset(rules["missing"])

    def tokens(self, name: str, cells: tuple[list[Any], int]) -> list[str]:
        """Return the token of each cell; the empty text is a missing value."""
        values, exact = cells
        missing = self._cells["missing_token"] or ""
        tokens = (self.token(name, value, exact) for value in values)
        return [token or missing for token in tokens]

    def token(self, name: str, value: Any, exact: int) -> str:
        """Return the token of a cell, empty for a missing value.

        Args:
            name: column, for the error message.
            value: the cell.
            exact: largest integer that the floats of the column hold exactly.

        Raises:
            EncodingError: the cell cannot be an id.
        """
        if is_null(value):
            return ""
        if isinstance(value, str):
            text = value.strip() if self._cells["strip"] else value
            whole = WHOLE_FLOAT.fullmatch(text)
            return "" if text in self.missing else whole[1] if whole else text
        if isinstance(value, bool):
            return str(value).lower()
        if isinstance(value, int):
            return str(value)
        if isinstance(value, float) and abs(value) <= exact:
            if value.is_integer():
                return str(int(value))
            if self._cells["fractions"]:
                return repr(value)
        raise EncodingError(f"column {name!r} has {value!r}, which cannot be an id: give an integer or text.")

    def number(self, name: str, value: Any) -> float:
        """Return the number of a cell, NaN for a missing value.

        Raises:
            EncodingError: the cell is no number.
        """
        rule = self._cells["numbers"]
        if is_null(value):
            return math.nan
        if isinstance(value, str):
            text = value.strip()
            if text == "" or value in self.missing or text in self.missing:
                return math.nan
            if _NUMBER.fullmatch(text):
                return float(text)
        elif isinstance(value, int | float) and not (isinstance(value, bool) and rule == "strict"):
            return float(value)
        if rule == "lenient":
            return math.nan
        raise EncodingError(f"column {name!r} has {value!r}, which is not a number.")


def names_of(rows: Any) -> list[str]:
    """Return the columns of rows: of a DataFrame, a dict of columns, or of the first of a list of dicts."""
    if isinstance(rows, Mapping):
        return list(rows)
    if hasattr(rows, "columns"):
        return [str(name) for name in rows.columns]
    return list(rows[0]) if len(rows) else []


def length_of(rows: Any) -> int:
    """Return the number of rows."""
    return len(next(iter(rows.values()))) if isinstance(rows, Mapping) else len(rows)


def cells_of(rows: Any, name: str) -> tuple[list[Any], int]:
    """Return the cells of a column as Python values, and the largest integer that its floats hold exactly.

    Raises:
        EncodingError: there is no such column.
    """
    if not isinstance(rows, Mapping) and not hasattr(rows, "columns"):
        lacking = next((number for number, row in enumerate(rows, start=1) if name not in row), None)
        if lacking is not None:
            raise EncodingError(f"row {lacking} has no {name!r}; a missing value is None.")
        column: Any = [row[name] for row in rows]
    elif name not in names_of(rows):
        raise EncodingError(f"there is no column {name!r} (columns: {', '.join(names_of(rows))}).")
    else:
        column = rows[name]
    array = column if isinstance(column, np.ndarray) else column.to_numpy() if hasattr(column, "to_numpy") else None
    if array is None:
        return [cell.item() if isinstance(cell, np.generic) else cell for cell in column], EXACT_INTEGERS
    cells = [cell.item() if isinstance(cell, np.generic) else cell for cell in array.tolist()]
    return cells, _EXACT.get(array.dtype, EXACT_INTEGERS)


def is_null(value: Any) -> bool:
    """Return whether a cell is None, NaN or the missing value of pandas."""
    return value is None or (isinstance(value, float) and math.isnan(value)) or type(value).__name__ == "NAType"


def id_text(value: Any) -> str:
    """Return an id of a user or item as its token."""
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    whole = WHOLE_FLOAT.fullmatch(value) if isinstance(value, str) else None
    return whole[1] if whole else str(value)

"""Recognises text columns whose cells hold several values, such as ``Action|Comedy``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from stemlab.data.table.cells import as_strings

_MAX_CELLS = 20_000
_SEPARATORS = ("|", ";", ",", "^", "#", "\x01", "\x02", "\x03", "\t", " ")
_UNAMBIGUOUS = ("|", "^", "\x01", "\x02", "\x03", "\t")
_BRACKETS = {"[": "]", "{": "}", "(": ")"}
_LEAST_SHARE, _LEAST_REPEATED = 0.3, 0.3


def list_form(column: Any) -> str | None:
    """Return how the cells of a text column hold several values (``separated by '|'``), or None for single values.

    Args:
        column: Arrow column; its first distinct cells are examined.
    """
    cells = _texts(column)
    bracketed = [text for text in cells if _BRACKETS.get(text[0]) == text[-1] and len(text) > 1]
    if len(bracketed) > len(cells) / 2:
        return f"in {bracketed[0][0]}{bracketed[0][-1]}"
    found = _separator(cells)
    return None if found is None else f"separated by {found!r}"


def list_separator(column: Any) -> str | None:
    """Return the separator of the values in the cells of a text column; None for single values and for brackets."""
    form = list_form(column)
    return _separator(_texts(column)) if form and form.startswith("separated") else None


def _texts(column: Any) -> list[str]:
    cells = [text.strip() for text in as_strings(column.unique())[:_MAX_CELLS].to_pylist() if text]
    return [text for text in cells if text]


def _separator(cells: Sequence[str]) -> str | None:
    return next((separator for separator in _SEPARATORS if cells and _separates(separator, cells)), None)


def _separates(separator: str, cells: Sequence[str]) -> bool:
    """Return whether the separator divides the cells into values that occur in several cells, or into ids."""
    lists = [text.split(separator) for text in cells]
    if sum(len(parts) > 1 for parts in lists) < _LEAST_SHARE * len(cells):
        return False
    different, longest = len({len(parts) for parts in lists}) > 1, max(map(len, lists))
    occurrences = [part.strip() for parts in lists for part in set(parts)]
    repeated = 1 - len(set(occurrences)) / len(occurrences)
    if separator in _UNAMBIGUOUS:
        return repeated > 0 or longest > 2
    if all(part.strip().lstrip("+-").isdecimal() for part in occurrences if part.strip()):
        return different and longest > 2  # two integers may be a decimal number with a comma
    return separator != " " and different and repeated >= _LEAST_REPEATED

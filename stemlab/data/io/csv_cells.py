"""Text cells of CSV files that a spreadsheet would read as formulas."""

from __future__ import annotations

from typing import Any

_FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r")


def escape_formula(cell: Any) -> Any:
    """Return a text that begins like a formula with ``'`` in front, which spreadsheets show as text; else the cell."""
    return f"'{cell}" if isinstance(cell, str) and cell.startswith(_FORMULA_STARTS) else cell

"""Numbers of the page with few digits, so that the page stays small."""

from __future__ import annotations

_DIGITS = 6  # significant


def rounded(value: float) -> float:
    """Return a number with six significant digits."""
    return float(f"{value:.{_DIGITS}g}")

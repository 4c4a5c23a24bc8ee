"""Percentiles of large arrays: exact, or from a histogram where a sorted copy would need too much memory.

Legend: P values, Q percentiles, N bins.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from stemlab.array_types import AnyArray, Int64Array

EXACT = 50_000_000
"""Largest number of values with exact percentiles (docs/methods/recscope.md#exact-percentiles)."""
BINS = 1 << 20
_BLOCK = 1 << 20


def percentiles(values_P: AnyArray, wanted: Sequence[float]) -> AnyArray:
    """Return (Q,) linearly interpolated percentiles in the dtype of the values (as ``numpy.percentile``).

    For more than 50,000,000 values they come from a histogram of 1,048,576 equal bins; the error is at most one bin
    width, (maximum - minimum) / 1,048,576. Minimum and maximum are exact.

    Args:
        values_P: at least one value, without NaN.
        wanted: Q percentiles, 0 to 100.
    """
    if len(values_P) <= EXACT:
        return np.asarray(np.percentile(values_P, wanted))
    low, high = float(values_P.min()), float(values_P.max())
    if low == high:
        return np.full(len(wanted), low, dtype=values_P.dtype)
    below_N = np.cumsum(_histogram(values_P, low, high))
    found = []
    for percentile in wanted:
        position = percentile / 100 * (len(values_P) - 1)
        first = int(position)
        one, other = (_value(rank, below_N, low, high) for rank in (first, min(first + 1, len(values_P) - 1)))
        found.append(one + (position - first) * (other - one))
    return np.asarray(found, dtype=values_P.dtype)


def _histogram(values_P: AnyArray, low: float, high: float) -> Int64Array:
    """Return (N,) counts of the equal-width bins between ``low`` and ``high``."""
    count_N = np.zeros(BINS, dtype=np.int64)
    for start in range(0, len(values_P), _BLOCK):
        block = values_P[start : start + _BLOCK].astype(np.float64)
        bin_B = ((block - low) * (BINS / (high - low))).astype(np.int64)
        count_N += np.bincount(bin_B.clip(0, BINS - 1), minlength=BINS)
    return count_N


def _value(rank: int, below_N: Int64Array, low: float, high: float) -> float:
    """Return the approximate value of a rank (from 0); values are assumed to be spread evenly within their bin."""
    if rank in (0, below_N[-1] - 1):
        return low if rank == 0 else high
    number = int(np.searchsorted(below_N, rank, side="right"))
    before = int(below_N[number - 1]) if number else 0
    fraction = (rank - before + 0.5) / (int(below_N[number]) - before)
    return low + (number + fraction) * (high - low) / BINS

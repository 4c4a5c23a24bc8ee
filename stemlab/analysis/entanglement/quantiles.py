"""Percentiles of many values: exact, or of so many values that a sorted copy is too large, from a histogram.

Legend: P values, Q percentiles, N bins.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from stemlab.array_types import AnyArray, Int64Array

EXACT = 50_000_000
"""Up to so many values percentiles are exact (spec/recscope.md section 4)."""
BINS = 1 << 20
_BLOCK = 1 << 20


def percentiles(values_P: AnyArray, wanted: Sequence[float]) -> AnyArray:
    """Return (Q,) linearly interpolated percentiles, in the values' own precision (``numpy.percentile``).

    Of more than 50,000,000 values they are read from a histogram of 1,048,576 equal bins: at most one bin,
    (largest - smallest) / 1,048,576, from the exact ones. The smallest and the largest value are exact.

    Args:
        values_P: at least one value, none of them nan.
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
        place = percentile / 100 * (len(values_P) - 1)
        first = int(place)
        one, other = (_value(rank, below_N, low, high) for rank in (first, min(first + 1, len(values_P) - 1)))
        found.append(one + (place - first) * (other - one))
    return np.asarray(found, dtype=values_P.dtype)


def _histogram(values_P: AnyArray, low: float, high: float) -> Int64Array:
    """Return (N,) how many values are in each of the equal bins between the smallest and the largest."""
    count_N = np.zeros(BINS, dtype=np.int64)
    for start in range(0, len(values_P), _BLOCK):
        block = values_P[start : start + _BLOCK].astype(np.float64)
        place = ((block - low) * (BINS / (high - low))).astype(np.int64)
        count_N += np.bincount(place.clip(0, BINS - 1), minlength=BINS)
    return count_N


def _value(rank: int, below_N: Int64Array, low: float, high: float) -> float:
    """Return about the value that has this rank (from 0): its bin's values count as evenly spread in the bin."""
    if rank in (0, below_N[-1] - 1):
        return low if rank == 0 else high
    place = int(np.searchsorted(below_N, rank, side="right"))
    before = int(below_N[place - 1]) if place else 0
    inside = (rank - before + 0.5) / (int(below_N[place]) - before)
    return low + (place + inside) * (high - low) / BINS

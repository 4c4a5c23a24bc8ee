"""Buckets of numbers between limits; limits at quantiles of the training rows, exact in constant memory.

Numbers are stored as int64 keys in the same order, so that they pass through the column cache without rounding.

Legend: R rows of a chunk, Q limits.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import pairwise

import numpy as np
import pyarrow as pa

from stemlab.array_types import Float64Array, Int32Array, Int64Array, IntegerArray
from stemlab.data.prepare.vocabulary import Vocabulary
from stemlab.errors import StemlabError

Chunks = Callable[[], Iterator[Int64Array]]
"""Function that starts a pass over the keys of the training rows."""
_MAGNITUDE = np.int64(0x7FFF_FFFF_FFFF_FFFF)
_SIGN = np.uint64(1 << 63)
_MISSING_KEY = np.iinfo(np.int64).min
_MOST_DECIMALS = 16
_DIGITS = ((51, 13), (38, 13), (25, 13), (12, 13), (0, 12))
"""Shift and width of the digits of a 64-bit key, one per pass."""


def ordered_keys(values: Float64Array) -> Int64Array:
    """Return integers in the order of the numbers; NaN (missing) becomes the smallest one, -0.0 is 0.0."""
    bits = (values + 0.0).view(np.int64)
    keys: Int64Array = np.where(bits < 0, bits ^ _MAGNITUDE, bits)
    return np.where(np.isnan(values), _MISSING_KEY, keys)


def key_values(keys: Int64Array) -> Float64Array:
    """Return the numbers of keys."""
    bits = np.where(keys < 0, keys ^ _MAGNITUDE, keys)
    return np.ascontiguousarray(bits).view(np.float64)


def quantile_edges(name: str, chunks: Chunks, buckets: int) -> tuple[float, ...]:
    """Return the distinct limits of buckets of about equal size: ``numpy.quantile`` at 1/buckets, 2/buckets, ...

    Five passes find the order statistics on both sides of each limit digit by digit, as a radix sort would; infinite
    and missing values do not count.

    Args:
        name: the column, for the error message.
        chunks: training rows.
        buckets: number of buckets.

    Raises:
        StemlabError: there is no number.
    """
    count = sum(len(keys) for keys in _finite(chunks()))
    if not count:
        raise StemlabError(f"dataset.derived.{name}: no training row has a number, so there are no quantiles.")
    place_Q = (count - 1) * (np.arange(1, buckets) / buckets)
    below_Q = np.floor(place_Q).astype(np.int64)
    ranks = np.concatenate([below_Q, np.minimum(below_Q + 1, count - 1)])
    low_Q, high_Q = np.split(key_values(_order_statistics(chunks, ranks)), 2)
    share_Q, step_Q = place_Q - below_Q, high_Q - low_Q
    # both forms of the interpolation, as in NumPy: it is exact at both ends
    edge_Q = np.where(share_Q >= 0.5, high_Q - step_Q * (1 - share_Q), low_Q + step_Q * share_Q)
    return tuple(np.unique(edge_Q).tolist())


def _finite(chunks: Iterable[Int64Array]) -> Iterator[Int64Array]:
    return (keys[np.isfinite(key_values(keys))] for keys in chunks)


def _order_statistics(chunks: Chunks, ranks: Int64Array) -> Int64Array:
    """Return the keys at ranks (from 0) of the sorted keys."""
    prefixes, rest = np.zeros(len(ranks), dtype=np.uint64), ranks.copy()
    for number, (shift, width) in enumerate(_DIGITS):
        known, row = np.unique(prefixes, return_inverse=True)
        counts = np.zeros((len(known), 1 << width), dtype=np.int64)
        for keys in _finite(chunks()):
            unsigned = keys.view(np.uint64) ^ _SIGN
            high = unsigned >> np.uint64(shift + width) if number else np.zeros_like(unsigned)
            place = np.searchsorted(known, high).clip(max=len(known) - 1)
            digit = (unsigned >> np.uint64(shift)) & np.uint64((1 << width) - 1)
            own = known[place] == high
            cell = (place[own] << width) + digit[own].astype(np.int64)
            counts += np.bincount(cell, minlength=counts.size).reshape(counts.shape)
        ends = counts.cumsum(axis=1)
        found = np.array([np.searchsorted(ends[r], one, side="right") for r, one in zip(row, rest, strict=True)])
        rest -= np.where(found > 0, ends[row, np.maximum(found - 1, 0)], 0)
        prefixes = (prefixes << np.uint64(width)) | found.astype(np.uint64)
    return (prefixes ^ _SIGN).view(np.int64)


def rounded_limits(edges: Sequence[float]) -> list[float]:
    """Return limits for the names of buckets, with as few decimals as tell them apart: 0.3 for 0.30000000000000004.

    The error of a rounded limit is below a thousandth of its distance to the next one (of its size, if it is alone).
    """
    limits = [float(edge) for edge in edges]
    tolerance = min((high - low for low, high in pairwise(limits)), default=abs(limits[0])) / 1000
    for decimals in range(_MOST_DECIMALS):
        rounded = [round(limit, decimals) for limit in limits]
        if all(abs(own - limit) <= tolerance for own, limit in zip(rounded, limits, strict=True)):
            return rounded
    return limits


def bucket_names(edges: Sequence[float]) -> list[str]:
    """Return the names of the buckets between limits."""
    limits = [repr(float(edge)).removesuffix(".0") for edge in edges]
    return [f"< {limits[0]}", *(f"{low} to {high}" for low, high in pairwise(limits)), f">= {limits[-1]}"]


def bucket_numbers(values: Float64Array, edges: Sequence[float]) -> IntegerArray:
    """Return the number of the bucket of each value, from 0; a value at a limit belongs to the bucket above."""
    return np.searchsorted(np.asarray(edges, dtype=np.float64), values, side="right")


class BucketEncoder:
    """Keys of numbers -> ids of their buckets; a missing value is out-of-vocabulary.

    Args:
        vocabulary: the names of the buckets that have an id.
        edges: limits of the buckets.
    """

    def __init__(self, vocabulary: Vocabulary, edges: Sequence[float]) -> None:
        self._id = vocabulary.encode(pa.array(bucket_names(rounded_limits(edges)), pa.string()))
        self._edges, self._oov = tuple(edges), np.int32(vocabulary.oov)

    def __call__(self, keys: Int64Array) -> Int32Array:
        """Return the ids, (R,) int32."""
        values = key_values(keys)
        return np.where(np.isnan(values), self._oov, self._id[bucket_numbers(values, self._edges)])


def fit_buckets(
    name: str, chunks: Chunks, buckets: int, min_count: int
) -> tuple[Vocabulary, BucketEncoder, tuple[float, ...]]:
    """Return the vocabulary of the buckets, their encoder and their limits, from the training rows.

    Args:
        name: the column.
        chunks: training rows.
        buckets: number of buckets.
        min_count: least number of training rows of a bucket that gets an id.
    """
    edges = quantile_edges(name, chunks, buckets)
    counts = np.zeros(len(edges) + 1, dtype=np.int64)
    for keys in chunks():
        values = key_values(keys)
        counts += np.bincount(bucket_numbers(values[~np.isnan(values)], edges), minlength=len(counts))
    vocabulary = Vocabulary.fit(
        name, pa.array(bucket_names(rounded_limits(edges)), pa.string()), pa.array(counts), min_count
    )
    return vocabulary, BucketEncoder(vocabulary, edges), edges

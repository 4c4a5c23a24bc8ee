"""Count the distinct integers of a column in bounded memory."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import numpy as np

from stemlab.array_types import Int64Array, IntegerArray
from stemlab.data.prepare.vocabulary import DENSE_SPAN

ValueCounts = tuple[Int64Array, Int64Array]  # distinct values in ascending order, and their counts
_PART_ROWS = 1 << 24
_MIX = np.uint64(0x9E3779B97F4A7C15)  # multiplicative hashing (Knuth): spreads consecutive ids over the parts


def count_values(
    chunks: Callable[[], Iterable[IntegerArray]],
    value_range: tuple[int, int],
    min_count: int,
    dense_span: int = DENSE_SPAN,
) -> ValueCounts:
    """Count the values of a column.

    Args:
        chunks: returns the column in chunks; called several times for columns with a wide value range.
        value_range: smallest and largest value of the column.
        min_count: values with fewer occurrences are left out.
        dense_span: widest value range that is counted in one array; wider columns are counted in hash partitions.

    Returns:
        Values in ascending order and their counts, both (V,) int64.
    """
    low, high = value_range
    if high - low < dense_span:
        return _count_dense(chunks(), low, high - low + 1, min_count)
    return _count_in_parts(chunks, 1 + sum(map(len, chunks())) // _PART_ROWS, min_count)


def _count_dense(chunks: Iterable[IntegerArray], low: int, span: int, min_count: int) -> ValueCounts:
    counts = np.zeros(span, dtype=np.uint32)
    one = np.uint32(1)
    for chunk in chunks:
        np.add.at(counts, np.subtract(chunk, low, dtype=np.int64), one)
    kept = np.flatnonzero(counts >= max(min_count, 1))
    return kept + low, counts[kept].astype(np.int64)


def _count_in_parts(chunks: Callable[[], Iterable[IntegerArray]], parts: int, min_count: int) -> ValueCounts:
    """Count one hash partition after the other by sorting; ``parts`` passes, each with a part of the rows in memory."""
    found = [_count_sorted(_part_of(chunks(), part, parts), min_count) for part in range(parts)]
    values, counts = (np.concatenate(columns) for columns in zip(*found, strict=True))
    order = np.argsort(values)
    return values[order], counts[order]


def _part_of(chunks: Iterable[IntegerArray], part: int, parts: int) -> Int64Array:
    shift, base = np.uint64(40), np.uint64(parts)
    empty = [np.empty(0, np.int64)]
    return np.concatenate(empty + [c[((c.astype(np.uint64) * _MIX) >> shift) % base == part] for c in chunks])


def _count_sorted(values: Int64Array, min_count: int) -> ValueCounts:
    values.sort()
    starts = np.flatnonzero(np.concatenate([[len(values) > 0], values[1:] != values[:-1]]))
    counts = np.diff(starts, append=len(values))
    kept = counts >= min_count
    return values[starts][kept], counts[kept]

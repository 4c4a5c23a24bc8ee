"""Distances of user-item pairs in embedding tables, computed in blocks of pairs.

Legend: R training samples, V rows of a table, P pairs, D width.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Literal

import numpy as np

from stemlab.analysis.collapse.tables import training_counts
from stemlab.array_types import AnyArray, BoolArray, Float32Array, Int64Array

Metric = Literal["euclidean", "cosine", "dot"]

_BLOCK = 1 << 18
_GATHERED = 1 << 13
"""Pairs gathered at once; small enough for the CPU cache."""


def active(ids_R: AnyArray, rows: int, percentile: float, keep_padding_oov: bool) -> BoolArray:
    """Return (V,) whether an entity has strictly more training samples than a percentile of the occurring entities.

    Args:
        ids_R: ids of the training samples.
        rows: V.
        percentile: 0 to 100.
        keep_padding_oov: whether ids 0 and V - 1 may be active (as in the released code). Out-of-vocabulary collects
            all rare entities, so its count is large and it would always be active.
    """
    counts_V = training_counts(ids_R, rows)
    if not keep_padding_oov:
        counts_V[[0, -1]] = 0
    occurring = counts_V[counts_V > 0]
    if not len(occurring):
        return np.zeros(rows, dtype=np.bool_)
    return np.asarray(counts_V > np.percentile(occurring, percentile))


def kept_rows(user_R: AnyArray, item_R: AnyArray, user_V: BoolArray, item_V: BoolArray) -> Int64Array:
    """Return the ascending indices of samples whose user and item are both active.

    Args:
        user_R: user ids.
        item_R: item ids.
        user_V: whether a user is active.
        item_V: whether an item is active.
    """
    found = [start + np.flatnonzero(user_V[user_R[part]] & item_V[item_R[part]]) for start, part in _parts(len(user_R))]
    return np.concatenate(found) if found else np.zeros(0, dtype=np.int64)


def pair_distances(
    user_VD: AnyArray,
    item_VD: AnyArray,
    user_P: AnyArray,
    item_P: AnyArray,
    metric: Metric,
    advance: Callable[[int], None],
) -> Float32Array:
    """Return (P,) float32 distances; smaller is closer.

    Args:
        user_VD: user table.
        item_VD: item table of the same width.
        user_P: row indices of the users.
        item_P: row indices of the items.
        metric: ``euclidean`` (as in the released code), ``cosine`` (1 - cosine similarity) or ``dot`` (negative dot
            product).
        advance: progress callback; receives the number of pairs of every block.

    Raises:
        IndexError: a row index is out of range.
    """
    for ids_P, table in ((user_P, user_VD), (item_P, item_VD)):
        if len(ids_P) and not 0 <= ids_P.min() <= ids_P.max() < len(table):
            raise IndexError(f"row indices {ids_P.min()} to {ids_P.max()} do not fit a table with {len(table)} rows")
    distance_P = np.empty(len(user_P), dtype=np.float32)
    buffer_2BD = [np.empty((_GATHERED, table.shape[1]), dtype=table.dtype) for table in (user_VD, item_VD)]
    for start, part in _parts(len(user_P)):
        for first in range(start, part.stop, _GATHERED):
            few = slice(first, min(first + _GATHERED, part.stop))
            user_BD, item_BD = (buffer_BD[: few.stop - first] for buffer_BD in buffer_2BD)
            # "clip" writes into `out` without a temporary buffer; the indices are in range
            np.take(user_VD, user_P[few], axis=0, out=user_BD, mode="clip")
            np.take(item_VD, item_P[few], axis=0, out=item_BD, mode="clip")
            distance_P[few] = _distance(user_BD, item_BD, metric)
        advance(part.stop - start)
    return distance_P


def _distance(user_BD: AnyArray, item_BD: AnyArray, metric: Metric) -> AnyArray:
    """Return (B,) distances; the inputs may be overwritten."""
    if metric == "euclidean":
        user_BD -= item_BD
        user_BD *= user_BD
        return np.asarray(np.sqrt(user_BD.sum(axis=1)))
    product_B = np.einsum("bd,bd->b", user_BD, item_BD)
    if metric == "dot":
        return np.asarray(-product_B)
    lengths_B = np.linalg.norm(user_BD, axis=1) * np.linalg.norm(item_BD, axis=1)
    return np.asarray(1 - product_B / np.maximum(lengths_B, 1e-12))


def _parts(count: int) -> Iterator[tuple[int, slice]]:
    for start in range(0, count, _BLOCK):
        yield start, slice(start, min(start + _BLOCK, count))

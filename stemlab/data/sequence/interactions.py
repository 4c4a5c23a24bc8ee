"""Conversion of raw (user, item, time) rows to interactions with integer ids, sorted by time.

Legend: R interactions.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from stemlab.array_types import AnyArray, Int64Array


@dataclass(frozen=True, slots=True, eq=False)
class NumberedInteractions:
    """Interactions with ids from 1, sorted by (time, user); ties keep the file order.

    Attributes:
        user: (R,) int64 ids from 1, in ascending order of the original ids.
        item: (R,) int64 ids, likewise.
        time: (R,) int64 seconds since 1970, ascending.
        user_tokens: original user ids; user ``u`` has ``user_tokens[u - 1]``.
        item_tokens: original item ids, likewise.
        duplicates: number of dropped rows that repeat user, item and time of an earlier row.
    """

    user: Int64Array
    item: Int64Array
    time: Int64Array
    user_tokens: Sequence[str]
    item_tokens: Sequence[str]
    duplicates: int


def number_interactions(user: AnyArray, item: AnyArray, time: AnyArray) -> NumberedInteractions:
    """Drop duplicate rows, assign ids, sort by (time, user).

    Steps 1 to 3 of docs/methods/datasets.md#leave-one-out-protocol (ReChorus, CIKM22 notebooks).

    Args:
        user: (R,) original ids in file order: integers (sorted by value) or strings (sorted by code point).
        item: (R,) original ids, likewise.
        time: (R,) seconds since 1970.
    """
    user_names, user_R = np.unique(user, return_inverse=True)
    item_names, item_R = np.unique(item, return_inverse=True)
    kept = first_occurrences(user_R, item_R, time)
    order = kept[np.lexsort((user_R[kept], time[kept]))]  # stable
    return NumberedInteractions(
        user=user_R[order].astype(np.int64) + 1,
        item=item_R[order].astype(np.int64) + 1,
        time=time[order].astype(np.int64),
        user_tokens=[str(name) for name in user_names],
        item_tokens=[str(name) for name in item_names],
        duplicates=len(time) - len(kept),
    )


def positions_in_sequences(user: Int64Array) -> tuple[Int64Array, Int64Array]:
    """Return each row's position in its user's sequence, from 0, and the length of that sequence, both (R,).

    Args:
        user: (R,) user ids; the rows of each user are in the order of the sequence.
    """
    order = np.argsort(user, kind="stable")
    length = np.bincount(user)
    start = np.cumsum(length) - length
    position = np.empty(len(user), dtype=np.int64)
    position[order] = np.arange(len(user)) - start[user[order]]
    return position, length[user]


def first_occurrences(user: AnyArray, item: AnyArray, time: AnyArray) -> Int64Array:
    """Return the indices of rows that do not repeat user, item and time of an earlier row, ascending."""
    order = np.lexsort((time, item, user))  # stable: the first of equal rows stays first
    repeated = np.zeros(len(order), dtype=np.bool_)
    repeated[order[1:]] = np.logical_and.reduce(
        [column[order][1:] == column[order][:-1] for column in (user, item, time)]
    )
    return np.flatnonzero(~repeated)

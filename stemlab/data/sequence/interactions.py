"""Raw (user, item, time) rows -> numbered interactions in the order of time.

Legend: R interactions.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from stemlab.array_types import AnyArray, Int64Array


@dataclass(frozen=True, slots=True, eq=False)
class NumberedInteractions:
    """NumberedInteractions sorted by (time, user); rows of the same user and second keep the order of the file.

    Attributes:
        user: (R,) ids from 1, in the ascending order of the original ids.
        item: (R,) likewise.
        time: (R,) seconds since 1970, ascending.
        user_tokens: original ids; that of user ``u`` is ``user_tokens[u - 1]``.
        item_tokens: likewise.
        duplicates: rows left out because the same user, item and time were given before.
    """

    user: Int64Array
    item: Int64Array
    time: Int64Array
    user_tokens: Sequence[str]
    item_tokens: Sequence[str]
    duplicates: int


def number_interactions(user: AnyArray, item: AnyArray, time: AnyArray) -> NumberedInteractions:
    """Drop repeated rows, number users and items, sort by (time, user) (ReChorus, CIKM22 notebooks).

    Args:
        user: (R,) original ids in file order: integers (numbered by size) or strings (by code point).
        item: (R,) likewise.
        time: (R,) seconds since 1970.
    """
    user_names, user_R = np.unique(user, return_inverse=True)
    item_names, item_R = np.unique(item, return_inverse=True)
    kept = _first_of_equals(user_R, item_R, time)
    order = kept[np.lexsort((user_R[kept], time[kept]))]  # stable
    return NumberedInteractions(
        user=user_R[order].astype(np.int64) + 1,
        item=item_R[order].astype(np.int64) + 1,
        time=time[order].astype(np.int64),
        user_tokens=[str(name) for name in user_names],
        item_tokens=[str(name) for name in item_names],
        duplicates=len(time) - len(kept),
    )


def place_in_sequence(user: Int64Array) -> tuple[Int64Array, Int64Array]:
    """Return each row's place in its user's sequence, from 0, and the length of that sequence.

    Args:
        user: (R,) ids, the rows of a user in the order of the sequence.
    """
    order = np.argsort(user, kind="stable")
    length = np.bincount(user)
    start = np.cumsum(length) - length
    place = np.empty(len(user), dtype=np.int64)
    place[order] = np.arange(len(user)) - start[user[order]]
    return place, length[user]


def _first_of_equals(user: AnyArray, item: AnyArray, time: AnyArray) -> Int64Array:
    """Return the rows, ascending, without those that repeat an earlier one."""
    order = np.lexsort((time, item, user))  # stable: of equal rows the first comes first
    repeated = np.zeros(len(order), dtype=np.bool_)
    repeated[order[1:]] = np.logical_and.reduce(
        [column[order][1:] == column[order][:-1] for column in (user, item, time)]
    )
    return np.flatnonzero(~repeated)

"""Negatives of the evaluation, drawn once when a dataset is prepared, as the published notebooks draw them.

Legend: R interactions, V evaluated rows, N negatives a row, U users, I items.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from stemlab.array_types import BoolArray, Int32Array, Int64Array
from stemlab.errors import StemlabError


class ItemsOfUsers:
    """The distinct items of every user, for drawing others.

    Args:
        user: (R,) ids from 1.
        item: (R,) ids from 1.
        user_tokens: original ids, for messages.
    """

    def __init__(self, user: Int64Array, item: Int64Array, user_tokens: Sequence[str]) -> None:
        order = np.lexsort((item, user))
        first = np.ones(len(order), dtype=np.bool_)
        first[1:] = (np.diff(user[order]) != 0) | (np.diff(item[order]) != 0)
        self._item = item[order][first]
        self._stop = np.cumsum(np.bincount(user[order][first], minlength=len(user_tokens) + 1))
        self._tokens = user_tokens

    def unseen(self, user_V: Int64Array, most: int, needed: int) -> Iterator[BoolArray]:
        """Yield for each user which items 0 to ``most`` may be drawn; the array is good until the next one.

        Raises:
            StemlabError: a user leaves fewer than ``needed`` items.
        """
        free = np.ones(most + 1, dtype=np.bool_)
        free[0] = False
        for user in user_V:
            seen = self._item[self._stop[user - 1] : self._stop[user]]
            seen = seen[: np.searchsorted(seen, most, side="right")]
            if most - len(seen) < needed:
                raise StemlabError(
                    f"user {self._tokens[user - 1]} has {len(seen)} of the {most} items, so {needed} others cannot be "
                    "drawn as negatives: set dataset.eval_negatives=0 and dataset.evaluation.candidates=full."
                )
            free[seen] = False
            yield free
            free[seen] = True


def draw_with_replacement(
    random: np.random.RandomState, items: ItemsOfUsers, user_V: Int64Array, most: int, count: int
) -> Int32Array:
    """Draw negatives as the CIKM22 notebooks do: a whole matrix first, then its bad entries again, row by row.

    Args:
        random: numpy's legacy generator, which goes on where it stands.
        items: what may not be drawn.
        user_V: (V,) the users in the order of the rows.
        most: largest item id that is drawn.
        count: N.

    Returns:
        (V, N) item ids, 1 to ``most``, uniform among those the user does not have; one may occur more than once.
    """
    drawn_VN = random.randint(1, most + 1, (len(user_V), count))
    for drawn_N, free in zip(drawn_VN, items.unseen(user_V, most, needed=1), strict=True):
        for column in np.flatnonzero(~free[drawn_N]):
            while not free[drawn_N[column]]:
                drawn_N[column] = random.randint(1, most + 1)
    return drawn_VN.astype(np.int32)


def draw_distinct(
    random: np.random.RandomState, items: ItemsOfUsers, user_V: Int64Array, most: int, count: int
) -> Int32Array:
    """Draw negatives of which no two of a row are equal; arguments as in :func:`draw_with_replacement`."""
    drawn_VN = np.empty((len(user_V), count), dtype=np.int32)
    for row, free in enumerate(items.unseen(user_V, most, needed=count)):
        drawn_VN[row] = random.choice(np.flatnonzero(free), count, replace=False)
    return drawn_VN

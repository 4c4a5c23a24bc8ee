"""Evaluation negatives, drawn once when a dataset is prepared, as in ReChorus' notebooks.

Source: docs/methods/datasets.md#evaluation-negatives.

Legend: R interactions, V evaluation rows, N negatives per row.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from stemlab.array_types import BoolArray, Int32Array, Int64Array
from stemlab.data.prepare.split import SPLITS
from stemlab.data.sequence.interactions import NumberedInteractions
from stemlab.errors import StemlabError


@dataclass(frozen=True, kw_only=True, slots=True)
class EvaluationNegatives:
    """Settings of the negatives that are drawn once per validation and test row.

    Attributes:
        count: negatives per row; 0 stores none.
        seed: seed of the NumPy legacy generator.
        largest: largest item id drawn; ``None``: the default of the split rule.
    """

    count: int
    seed: int
    largest: int | None = None


class ItemsOfUsers:
    """Distinct items of every user, which are not drawn as negatives.

    Args:
        user: (R,) user ids from 1.
        item: (R,) item ids from 1.
        user_tokens: original user ids, for messages.
    """

    def __init__(self, user: Int64Array, item: Int64Array, user_tokens: Sequence[str]) -> None:
        order = np.lexsort((item, user))
        first = np.ones(len(order), dtype=np.bool_)
        first[1:] = (np.diff(user[order]) != 0) | (np.diff(item[order]) != 0)
        self._item = item[order][first]
        self._stop = np.cumsum(np.bincount(user[order][first], minlength=len(user_tokens) + 1))
        self._tokens = user_tokens

    def unseen(self, user_V: Int64Array, max_item: int, needed: int) -> Iterator[BoolArray]:
        """Yield for each user the mask of items 0 to ``max_item`` that may be drawn; the next step overwrites it.

        Raises:
            StemlabError: fewer than ``needed`` items can be drawn for a user.
        """
        free = np.ones(max_item + 1, dtype=np.bool_)
        free[0] = False
        for user in user_V:
            seen = self._item[self._stop[user - 1] : self._stop[user]]
            seen = seen[: np.searchsorted(seen, max_item, side="right")]
            if max_item - len(seen) < needed:
                raise StemlabError(
                    f"user {self._tokens[user - 1]} has {len(seen)} of the {max_item} items, so {needed} others cannot "
                    "be drawn as negatives: set dataset.eval_negatives=0 and dataset.evaluation.candidates=full."
                )
            free[seen] = False
            yield free
            free[seen] = True


def draw_with_replacement(
    random: np.random.RandomState, items: ItemsOfUsers, user_V: Int64Array, max_item: int, count: int
) -> Int32Array:
    """Draw negatives as in the CIKM22 notebooks: the whole matrix, then redraw the user's own items row by row.

    Args:
        random: NumPy legacy generator; its state advances.
        items: items of the users, which are not drawn.
        user_V: (V,) user of each row.
        max_item: largest item id drawn.
        count: N.

    Returns:
        (V, N) item ids, 1 to ``max_item``, uniform over the items the user does not have; they may repeat.

    Raises:
        StemlabError: a user has all items.
    """
    drawn_VN = random.randint(1, max_item + 1, (len(user_V), count))
    for drawn_N, free in zip(drawn_VN, items.unseen(user_V, max_item, needed=1), strict=True):
        for column in np.flatnonzero(~free[drawn_N]):
            while not free[drawn_N[column]]:
                drawn_N[column] = random.randint(1, max_item + 1)
    return drawn_VN.astype(np.int32)


def draw_distinct(
    random: np.random.RandomState, items: ItemsOfUsers, user_V: Int64Array, max_item: int, count: int
) -> Int32Array:
    """Draw negatives that are distinct within each row; arguments as in :func:`draw_with_replacement`.

    Raises:
        StemlabError: fewer than ``count`` items can be drawn for a user.
    """
    drawn_VN = np.empty((len(user_V), count), dtype=np.int32)
    for row, free in enumerate(items.unseen(user_V, max_item, needed=count)):
        drawn_VN[row] = random.choice(np.flatnonzero(free), count, replace=False)
    return drawn_VN


Draw = Callable[[np.random.RandomState, ItemsOfUsers, Int64Array, int, int], Int32Array]
"""``draw_with_replacement`` or ``draw_distinct``."""


def draw_for_splits(
    draw: Draw, rows: NumberedInteractions, split: Int64Array, negatives: EvaluationNegatives, max_item: int
) -> dict[str, Int32Array]:
    """Return the negatives of test, then of valid, drawn from one generator; nothing if none are stored.

    Args:
        draw: how the negatives of the rows of a split are drawn.
        rows: all interactions.
        split: (R,) 0 train, 1 valid, 2 test.
        negatives: the settings.
        max_item: largest item id drawn.

    Raises:
        StemlabError: too few items can be drawn for a user.
    """
    if not negatives.count:
        return {}
    random, items = np.random.RandomState(negatives.seed), ItemsOfUsers(rows.user, rows.item, rows.user_tokens)
    return {
        name: draw(random, items, rows.user[split == SPLITS.index(name)], max_item, negatives.count)
        for name in ("test", "valid")
    }

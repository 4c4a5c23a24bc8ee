"""Global time: what happened after a day is held out, the same day for all users (ReChorus master, MovieLens-1M).

Likes (rating 4 and 5) count; users and items need five of them. The first 80 % of the days are train, the next 10 %
validation, the rest test; evaluated rows of users or items that train does not know are dropped; of what is left only
likes are kept. Its numbers must never stand beside those of leave-one-out.

Legend: R ratings.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stemlab.data.sequence.interactions import Interactions, number_interactions
from stemlab.data.sequence.raw import RawSequences
from stemlab.data.sequence.stored_negatives import ItemsOfUsers, draw_distinct
from stemlab.errors import StemlabError

LIKED = 4
CORE = 5
EVALUATED_FROM = (0.8, 0.9)  # shares of the days, after which valid and test begin
DAY = 86_400
_SPLITS = {"test": 2, "valid": 1}  # in the order of drawing


def global_time(
    user: NDArray[Any],
    item: NDArray[Any],
    time: NDArray[Any],
    rating: NDArray[Any],
    *,
    eval_negatives: int,
    seed: int = 0,
    skipped: int = 0,
    facts: Mapping[str, Any] | None = None,
) -> RawSequences:
    """Return the likes split by day, with the negatives of the evaluation.

    Days are counted from the first rating of the file, in UTC.

    Args:
        user: (R,) original user ids in file order.
        item: (R,) original item ids.
        time: (R,) seconds since 1970.
        rating: (R,) 1 to 5.
        eval_negatives: negatives of each evaluated row, no two equal, none of them an item that the user ever liked;
            published: 99; 0 stores none.
        seed: of numpy's legacy generator that draws them.
        skipped: bad raw rows that were left out.
        facts: what else the manifest should tell.

    Raises:
        StemlabError: nothing is left, or a user liked so many items that too few are left to draw.
    """
    core = keep_core(user, item, rating >= LIKED)
    user, item, time, liked = user[core], item[core], time[core], rating[core] >= LIKED
    if not liked.any():
        raise StemlabError(
            f"no user has {CORE} likes of items with {CORE} likes, so dataset.protocol=master leaves no row: "
            "give more ratings, or take dataset.protocol=cikm22."
        )
    edges = time.min() + DAY * (1 + np.floor(np.array(EVALUATED_FROM) * ((time.max() - time.min()) // DAY)))
    split = np.searchsorted(edges, time, side="right")  # a day after the share of days is held out, not that day itself
    kept = liked & ((split == 0) | (_known(user, split) & _known(item, split)))
    rows = number_interactions(user[kept], item[kept], time[kept])
    split = np.searchsorted(edges, rows.time, side="right")
    order = np.argsort(split, kind="stable")
    return RawSequences(
        user=rows.user[order],
        item=rows.item[order],
        time=rows.time[order],
        split=split[order],
        user_tokens=rows.user_tokens,
        item_tokens=rows.item_tokens,
        negatives=_negatives(rows, split, eval_negatives, seed) if eval_negatives else {},
        skipped=skipped,
        facts={"core_rows": int(core.sum()), "duplicate_rows": rows.duplicates, **(facts or {})},
    )


def keep_core(user: NDArray[Any], item: NDArray[Any], liked: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Return which rows remain when users and items with fewer than five likes leave, until all have five."""
    user_R, item_R = (np.unique(column, return_inverse=True)[1] for column in (user, item))
    kept = np.ones(len(user_R), dtype=np.bool_)
    while True:
        counted = kept & liked
        enough = [np.bincount(ids[counted], minlength=len(ids))[ids] >= CORE for ids in (user_R, item_R)]
        left = kept & enough[0] & enough[1]
        if left.sum() == kept.sum():
            return left
        kept = left


def _known(ids: NDArray[Any], split: NDArray[Any]) -> NDArray[np.bool_]:
    """Return which rows are of a user (an item) that has a train row, liked or not."""
    return np.isin(ids, ids[split == 0])


def _negatives(rows: Interactions, split: NDArray[Any], count: int, seed: int) -> dict[str, NDArray[np.int32]]:
    random = np.random.RandomState(seed)
    items = ItemsOfUsers(rows.user, rows.item, rows.user_tokens)
    most = len(rows.item_tokens)
    return {name: draw_distinct(random, items, rows.user[split == code], most, count) for name, code in _SPLITS.items()}

"""Global time: what happened after a day is held out, the same day for all users (ReChorus master, MovieLens-1M).

Likes (rating 4 and 5) count; users and items need five of them. Of the likes, those of the first 80 % of the days are
train, of the next 10 % validation, of the rest test; evaluated ones of users or items without a like in train are
dropped. Its numbers must never stand beside those of leave-one-out.

The published sizes come out with days that begin at midnight in China, where the notebook was run: it takes local time.

Legend: R ratings.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from stemlab.array_types import AnyArray, BoolArray, Int32Array, Int64Array
from stemlab.data.sequence.interactions import NumberedInteractions, number_interactions
from stemlab.data.sequence.raw import RawSequences
from stemlab.data.sequence.stored_negatives import ItemsOfUsers, draw_distinct
from stemlab.errors import StemlabError

LIKED = 4
CORE = 5
LAST_DAYS = (0.8, 0.9)  # of train and of valid, as shares of the last day's number
DAY, MIDNIGHT = 86_400, -8 * 3_600  # seconds: a day, and where days begin
_SPLITS = {"test": 2, "valid": 1}  # in the order of drawing


def global_time(
    user: AnyArray,
    item: AnyArray,
    time: AnyArray,
    rating: AnyArray,
    *,
    eval_negatives: int,
    seed: int = 0,
    skipped: int = 0,
    facts: Mapping[str, Any] | None = None,
) -> RawSequences:
    """Return the likes split by day, with the negatives of the evaluation.

    Days are counted from that of the first rating that is left by the five-core, liked or not.

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
    kept = core & (rating >= LIKED)
    if not kept.any():
        raise StemlabError(
            f"no user has {CORE} likes of items with {CORE} likes, so dataset.protocol=master leaves no row: "
            "give more ratings, or take dataset.protocol=cikm22."
        )
    first = _day(time[core].min())
    edges = np.floor(np.array(LAST_DAYS) * (_day(time[kept].max()) - first))
    kept[kept] = _known(user[kept], item[kept], _split(time[kept], first, edges))
    rows = number_interactions(user[kept], item[kept], time[kept])
    split = _split(rows.time, first, edges)
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


def keep_core(user: AnyArray, item: AnyArray, liked: BoolArray) -> BoolArray:
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


def _day(time: Any) -> Any:
    return (time - MIDNIGHT) // DAY


def _split(time: AnyArray, first: int, edges: AnyArray) -> Int64Array:
    """Return 0, 1 or 2 for each time: how many of the last days of train and of valid have passed."""
    split: Int64Array = np.searchsorted(edges, _day(time) - first, side="left")
    return split


def _known(user: AnyArray, item: AnyArray, split: AnyArray) -> BoolArray:
    """Return which rows are train rows, or have both their user and their item in one."""
    train = split == 0
    known: BoolArray = train | (np.isin(user, user[train]) & np.isin(item, item[train]))
    return known


def _negatives(rows: NumberedInteractions, split: AnyArray, count: int, seed: int) -> dict[str, Int32Array]:
    random = np.random.RandomState(seed)
    items = ItemsOfUsers(rows.user, rows.item, rows.user_tokens)
    most = len(rows.item_tokens)
    return {name: draw_distinct(random, items, rows.user[split == code], most, count) for name, code in _SPLITS.items()}

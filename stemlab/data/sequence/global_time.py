"""Split at global dates, the same for all users (ReChorus master branch, MovieLens-1M).

Only likes (ratings 4 and 5) are used; users and items need at least five. Likes of the first 80 % of the days are
train, of the next 10 % validation, of the rest test. Validation and test likes whose user or item has no training like
are dropped. Results are not comparable with leave-one-out. Source: docs/methods/datasets.md#global-time-protocol.

Days start at midnight in China: the notebook uses local time, and only this time zone gives the sizes printed there.

Legend: R ratings.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from stemlab.array_types import AnyArray, BoolArray, Int64Array
from stemlab.data.sequence.interactions import number_interactions
from stemlab.data.sequence.raw import RawSequences, split_sequences
from stemlab.data.sequence.stored_negatives import EvaluationNegatives, draw_distinct, draw_for_splits
from stemlab.errors import StemlabError

_MIN_LIKED_RATING = 4
CORE = 5
_SPLIT_EDGES = (0.8, 0.9)  # last day of train and of valid, as fractions of the number of days
SECONDS_PER_DAY, MIDNIGHT = 86_400, -8 * 3_600  # start of a day in seconds (UTC+8)


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
    """Return the likes split by day, with evaluation negatives.

    Day 0 is the day of the first rating that remains after 5-core filtering, liked or not.

    Args:
        user: (R,) original user ids in file order.
        item: (R,) original item ids.
        time: (R,) seconds since 1970.
        rating: (R,) 1 to 5.
        eval_negatives: distinct negatives per validation and test row, never liked by the user (released code: 99);
            0 stores none.
        seed: seed of the NumPy legacy generator that draws the negatives.
        skipped: number of invalid raw rows that were skipped.
        facts: further entries of the manifest.

    Raises:
        StemlabError: no row is left, or a user liked too many items to draw the negatives.
    """
    liked = rating >= _MIN_LIKED_RATING
    core = in_core(user, item, liked, CORE)
    kept = core & liked
    if not kept.any():
        raise StemlabError(
            f"no user has {CORE} likes of items with {CORE} likes, so dataset.protocol=master leaves no row: "
            "add ratings, or set dataset.protocol=cikm22."
        )
    first = _day(time[core].min())
    edges = np.floor(np.array(_SPLIT_EDGES) * (_day(time[kept].max()) - first))
    kept[kept] = seen_in_train(user[kept], item[kept], _split(time[kept], first, edges))
    rows = number_interactions(user[kept], item[kept], time[kept])
    split = _split(rows.time, first, edges)
    negatives = EvaluationNegatives(count=eval_negatives, seed=seed)
    drawn = draw_for_splits(draw_distinct, rows, split, negatives, len(rows.item_tokens))
    facts = {"core_rows": int(core.sum()), "duplicate_rows": rows.duplicates, **(facts or {})}
    return split_sequences(rows, split, drawn, skipped=skipped, facts=facts)


def in_core(user: AnyArray, item: AnyArray, counted: BoolArray, least: int) -> BoolArray:
    """Return the mask of rows that are left when users and items with too few counted rows are removed repeatedly.

    Args:
        user: (R,) user ids.
        item: (R,) item ids.
        counted: (R,) rows that count.
        least: number of counted rows that a user or item must have.
    """
    user_R, item_R = (np.unique(column, return_inverse=True)[1] for column in (user, item))
    kept = np.ones(len(user_R), dtype=np.bool_)
    while True:
        rows = kept & counted
        enough = [np.bincount(ids[rows], minlength=len(ids))[ids] >= least for ids in (user_R, item_R)]
        remaining = kept & enough[0] & enough[1]
        if remaining.sum() == kept.sum():
            return remaining
        kept = remaining


def _day(time: Any) -> Any:
    return (time - MIDNIGHT) // SECONDS_PER_DAY


def _split(time: AnyArray, first: int, edges: AnyArray) -> Int64Array:
    """Return the split of each time: 0 train, 1 valid, 2 test."""
    split: Int64Array = np.searchsorted(edges, _day(time) - first, side="left")
    return split


def seen_in_train(user: AnyArray, item: AnyArray, split: AnyArray) -> BoolArray:
    """Return the mask of train rows and of rows whose user and item both occur in train."""
    train = split == 0
    seen: BoolArray = train | (np.isin(user, user[train]) & np.isin(item, item[train]))
    return seen

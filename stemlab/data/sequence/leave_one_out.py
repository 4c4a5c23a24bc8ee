"""Leave-one-out: each user's last interaction is the test row, the one before it the validation row.

As the notebooks of ReChorus' CIKM22 branch make their data. Every user's first interaction always stays in train, so a
user with one interaction is never evaluated and one with two has only a test row.

Legend: R interactions.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from stemlab.array_types import AnyArray, Int32Array
from stemlab.data.sequence.interactions import NumberedInteractions, number_interactions, place_in_sequence
from stemlab.data.sequence.raw import RawSequences
from stemlab.data.sequence.stored_negatives import ItemsOfUsers, draw_with_replacement

TRAIN, VALID, TEST = 0, 1, 2


def leave_one_out(
    user: AnyArray,
    item: AnyArray,
    time: AnyArray,
    *,
    eval_negatives: int,
    seed: int = 0,
    largest_negative: int | None = None,
    skipped: int = 0,
    facts: Mapping[str, Any] | None = None,
) -> RawSequences:
    """Return the interactions split, with the negatives of the evaluation.

    Args:
        user: (R,) original user ids in file order, integers or strings.
        item: (R,) original item ids, likewise.
        time: (R,) seconds since 1970.
        eval_negatives: negatives of each evaluated row, drawn with replacement among the items that the user never
            had; 0 stores none.
        seed: of numpy's legacy generator that draws them (published: 0).
        largest_negative: largest item id drawn; ``None`` takes the number of distinct items among all rows but the
            users' first ones (published).
        skipped: bad raw rows that were left out.
        facts: what else the manifest should tell.

    Raises:
        StemlabError: a user had every item, so that no negative can be drawn.
    """
    rows = number_interactions(user, item, time)
    place, length = place_in_sequence(rows.user)
    back = np.where(place > 0, length - 1 - place, -1)  # steps from the end; a first row never counts
    split = np.select([back == 0, back == 1], [TEST, VALID], TRAIN)
    order = np.argsort(split, kind="stable")
    return RawSequences(
        user=rows.user[order],
        item=rows.item[order],
        time=rows.time[order],
        split=split[order],
        user_tokens=rows.user_tokens,
        item_tokens=rows.item_tokens,
        negatives=_negatives(rows, split, place, (eval_negatives, seed, largest_negative)) if eval_negatives else {},
        skipped=skipped,
        facts={"duplicate_rows": rows.duplicates, **(facts or {})},
    )


def _negatives(
    rows: NumberedInteractions, split: AnyArray, place: AnyArray, drawing: tuple[int, int, int | None]
) -> dict[str, Int32Array]:
    """Draw for test, then for valid, from one generator."""
    count, seed, largest = drawing
    random = np.random.RandomState(seed)
    items = ItemsOfUsers(rows.user, rows.item, rows.user_tokens)
    # Published so (a count taken for a maximum); where first rows hold the only ones of some items, the last ids are
    # never drawn. The stored lists of Grocery (8,713) and MovieLens-1M (3,702) come out with it.
    most = largest or len(np.unique(rows.item[place > 0]))
    return {
        name: draw_with_replacement(random, items, rows.user[split == code], most, count)
        for name, code in (("test", TEST), ("valid", VALID))
    }

"""Leave-one-out split: a user's last interaction is the test row, the one before it the validation row.

As in the notebooks of ReChorus' CIKM22 branch (docs/methods/datasets.md#leave-one-out-protocol). A user's first
interaction is always in train: a user with one interaction has no test row, a user with two has no validation row.

Legend: R interactions.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from stemlab.array_types import AnyArray, Int32Array
from stemlab.data.sequence.interactions import NumberedInteractions, number_interactions, positions_in_sequences
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
    """Return the split interactions with evaluation negatives.

    Args:
        user: (R,) original user ids in file order, integers or strings.
        item: (R,) original item ids, likewise.
        time: (R,) seconds since 1970.
        eval_negatives: negatives per validation and test row, drawn with replacement from the items that the user never
            interacted with; 0 stores none.
        seed: seed of the NumPy legacy generator that draws the negatives (released code: 0).
        largest_negative: largest item id drawn; ``None``: the number of distinct items among all rows except the
            users' first rows, as in the released code (docs/methods/datasets.md#evaluation-negatives).
        skipped: number of invalid raw rows that were skipped.
        facts: further entries of the manifest.

    Raises:
        StemlabError: a user interacted with every item, so no negative can be drawn.
    """
    rows = number_interactions(user, item, time)
    facts = {"duplicate_rows": rows.duplicates, **(facts or {})}
    return hold_out_last(rows, (eval_negatives, seed, largest_negative), skipped, facts)


def hold_out_last(
    rows: NumberedInteractions, negatives: tuple[int, int, int | None], skipped: int, facts: Mapping[str, Any]
) -> RawSequences:
    """Return numbered interactions, split; the arguments are those of ``leave_one_out``.

    Args:
        rows: the interactions.
        negatives: number of negatives per row, seed, largest item id drawn.
        skipped: number of invalid raw rows that were skipped.
        facts: further entries of the manifest.
    """
    position, length = positions_in_sequences(rows.user)
    from_end = np.where(position > 0, length - 1 - position, -1)  # a user's first row is never held out
    split = np.select([from_end == 0, from_end == 1], [TEST, VALID], TRAIN)
    order = np.argsort(split, kind="stable")
    return RawSequences(
        user=rows.user[order],
        item=rows.item[order],
        time=rows.time[order],
        split=split[order],
        user_tokens=rows.user_tokens,
        item_tokens=rows.item_tokens,
        negatives=_negatives(rows, split, position, negatives) if negatives[0] else {},
        skipped=skipped,
        facts=facts,
    )


def _negatives(
    rows: NumberedInteractions, split: AnyArray, position: AnyArray, settings: tuple[int, int, int | None]
) -> dict[str, Int32Array]:
    """Draw the negatives of test, then of valid, from one generator."""
    count, seed, largest = settings
    random = np.random.RandomState(seed)
    items = ItemsOfUsers(rows.user, rows.item, rows.user_tokens)
    # As in the released code, which uses this count as the largest id: if some items occur in first rows only, the
    # largest ids are never drawn. It reproduces the stored lists of Grocery (8,713) and MovieLens-1M (3,702).
    max_item = largest or len(np.unique(rows.item[position > 0]))
    return {
        name: draw_with_replacement(random, items, rows.user[split == code], max_item, count)
        for name, code in (("test", TEST), ("valid", VALID))
    }

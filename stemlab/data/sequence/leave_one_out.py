"""Leave-one-out split: a user's last interaction is the test row, the one before it the validation row.

As in the notebooks of ReChorus' CIKM22 branch (docs/methods/datasets.md#leave-one-out-protocol). A user's first
interaction is always in train: a user with one interaction has no test row, a user with two has no validation row.

Legend: R interactions.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from stemlab.array_types import AnyArray
from stemlab.data.sequence.interactions import NumberedInteractions, number_interactions, positions_in_sequences
from stemlab.data.sequence.raw import RawSequences, split_sequences
from stemlab.data.sequence.stored_negatives import EvaluationNegatives, draw_for_splits, draw_with_replacement

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
    negatives = EvaluationNegatives(count=eval_negatives, seed=seed, largest=largest_negative)
    return hold_out_last(rows, negatives, skipped, {"duplicate_rows": rows.duplicates, **(facts or {})})


def hold_out_last(
    rows: NumberedInteractions, negatives: EvaluationNegatives, skipped: int, facts: Mapping[str, Any]
) -> RawSequences:
    """Return the split of interactions that have ids already; arguments as those of ``leave_one_out``."""
    position, length = positions_in_sequences(rows.user)
    from_end = np.where(position > 0, length - 1 - position, -1)  # a user's first row is never held out
    split = np.select([from_end == 0, from_end == 1], [TEST, VALID], TRAIN)
    # As in the released code, which uses this count as the largest id: if some items occur in first rows only, the
    # largest ids are never drawn. It reproduces the stored lists of Grocery (8,713) and MovieLens-1M (3,702).
    max_item = negatives.largest or len(np.unique(rows.item[position > 0]))
    drawn = draw_for_splits(draw_with_replacement, rows, split, negatives, max_item)
    return split_sequences(rows, split, drawn, skipped=skipped, facts=facts)

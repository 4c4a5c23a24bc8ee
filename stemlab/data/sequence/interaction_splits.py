"""Filters and splits of a user's own interaction log: minimum count, leave-one-out, by time, by ratio.

Source: docs/interactions.md.

Legend: R interactions, U users, I items.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
from pydantic import ConfigDict
from pydantic.dataclasses import dataclass as checked_dataclass

from stemlab.array_types import AnyArray, Int64Array
from stemlab.data.sequence.global_time import in_core, seen_in_train
from stemlab.data.sequence.interactions import (
    NumberedInteractions,
    first_occurrences,
    number_interactions,
    positions_in_sequences,
)
from stemlab.data.sequence.leave_one_out import TEST, TRAIN, VALID, hold_out_last
from stemlab.data.sequence.raw import RawSequences, split_sequences
from stemlab.data.sequence.stored_negatives import EvaluationNegatives, draw_distinct, draw_for_splits
from stemlab.errors import StemlabError
from stemlab.types import Fraction


@checked_dataclass(frozen=True, kw_only=True, config=ConfigDict(extra="forbid"))
class InteractionSplit:
    """Rule that assigns interactions to train, valid and test.

    Attributes:
        rule: ``leave_one_out``: each user's last interaction is test, the one before it valid. ``time``: the latest
            interactions of the log. ``ratio``: the latest interactions of each user. ``auto``: ``leave_one_out``, or
            the files of a ReChorus folder.
        test_size: fraction of the interactions that is test (``time``: of the log, ``ratio``: of each user).
        valid_size: fraction that is valid, the interactions before them.
    """

    rule: Literal["auto", "leave_one_out", "time", "ratio"] = "auto"
    test_size: Fraction = 0.1
    valid_size: Fraction = 0.1


@dataclass(frozen=True, kw_only=True, eq=False, slots=True)
class OwnInteractions:
    """Interactions of a log in file order, with ids in the order of the names.

    Attributes:
        user: (R,) index of the user in ``user_names``.
        item: (R,) index of the item in ``item_names``.
        exact: (R,) int64 times, in any unit.
        time: (R,) int64 seconds since 1970, in the same order as ``exact``.
        user_names: original user ids, sorted: integers by value, others by code point.
        item_names: original item ids, likewise.
    """

    user: AnyArray
    item: AnyArray
    exact: Int64Array
    time: Int64Array
    user_names: Sequence[str]
    item_names: Sequence[str]

    def take(self, rows: Any) -> OwnInteractions:
        """Return the rows of a mask or of indices."""
        columns = {name: getattr(self, name)[rows] for name in ("user", "item", "exact", "time")}
        return replace(self, **columns)


def split_log(
    log: OwnInteractions,
    split: InteractionSplit,
    k_core: int | None,
    negatives: EvaluationNegatives,
    *,
    skipped: int = 0,
) -> RawSequences:
    """Drop repeated rows and rare users and items, split the rest, draw negatives.

    Args:
        log: the interactions.
        split: the rule; ``auto`` is leave-one-out.
        k_core: users and items with fewer interactions are removed, repeatedly; ``None`` keeps all.
        negatives: negatives of evaluation; by default up to the number of items.
        skipped: number of invalid raw rows that were skipped.

    Raises:
        StemlabError: no row is left, a split has no row, or a user has too many items to draw negatives.
    """
    kept = log.take(first_occurrences(log.user, log.item, log.exact))
    facts: dict[str, Any] = {"duplicate_rows": len(log.user) - len(kept.user)}
    if k_core is not None and k_core > 1:
        core = in_core(kept.user, kept.item, np.ones(len(kept.user), dtype=np.bool_), k_core)
        facts["rows_outside_k_core"] = int((~core).sum())
        kept = kept.take(core)
        if not len(kept.user):
            raise StemlabError(
                f"dataset.k_core={k_core} leaves no interaction: no user has {k_core} interactions with items that "
                "have as many; lower it."
            )
    if split.rule != "time":
        rows = _number(kept)
        if split.rule == "ratio":
            return _with_negatives(rows, _ratio_codes(rows.user, split), negatives, skipped, facts)
        negatives = replace(negatives, largest=negatives.largest or len(rows.item_tokens))
        return hold_out_last(rows, negatives, skipped, facts)
    valid_from, test_from = _first_times(kept.time, split)
    codes = _time_codes(kept.time, valid_from, test_from)
    seen = seen_in_train(kept.user, kept.item, codes)
    facts["rows_unseen_in_train"] = int((~seen).sum())
    facts["valid_from"], facts["test_from"] = valid_from, test_from
    rows = _number(kept.take(seen))
    return _with_negatives(rows, _time_codes(rows.time, valid_from, test_from), negatives, skipped, facts)


def _number(log: OwnInteractions) -> NumberedInteractions:
    """Return the rows sorted by exact time, with ids of the users and items that occur."""
    rows = number_interactions(log.user, log.item, log.exact)
    order = np.lexsort((log.user, log.exact))  # the order of number_interactions; no row is repeated
    return replace(
        rows,
        time=log.time[order],
        user_tokens=[log.user_names[int(index)] for index in rows.user_tokens],
        item_tokens=[log.item_names[int(index)] for index in rows.item_tokens],
    )


def _first_times(time: Int64Array, split: InteractionSplit) -> tuple[int, int]:
    """Return the first second of valid and of test; rows of one second are in one split."""
    ordered = np.sort(time)
    places = (1 - split.test_size - split.valid_size, 1 - split.test_size)
    valid_from, test_from = (int(ordered[min(int(place * len(time)), len(time) - 1)]) for place in places)
    if not ordered[0] < valid_from < test_from:
        raise StemlabError(
            f"dataset.split.rule=time leaves a split without rows: the {len(time):,} interactions have "
            f"{len(np.unique(time)):,} different times; choose other sizes, or dataset.split.rule=leave_one_out."
        )
    return valid_from, test_from


def _time_codes(time: Int64Array, valid_from: int, test_from: int) -> Int64Array:
    codes: Int64Array = np.where(time >= test_from, TEST, np.where(time >= valid_from, VALID, TRAIN))
    return codes


def _ratio_codes(user: Int64Array, split: InteractionSplit) -> Int64Array:
    """Return the split of each row of the sorted log; the first row of a user is always train.

    A user with at least two rows has one test row, and with at least three one valid row, however small the fractions.
    """
    position, length = positions_in_sequences(user)
    test = np.minimum(np.maximum((length * split.test_size).astype(np.int64), 1), length - 1)
    valid = np.minimum(np.maximum((length * split.valid_size).astype(np.int64), 1), length - 1 - test)
    from_end = length - 1 - position
    codes: Int64Array = np.where(from_end < test, TEST, np.where(from_end < test + valid, VALID, TRAIN))
    return codes


def _with_negatives(
    rows: NumberedInteractions, split: Int64Array, negatives: EvaluationNegatives, skipped: int, facts: dict[str, Any]
) -> RawSequences:
    max_item = negatives.largest or len(rows.item_tokens)
    drawn = draw_for_splits(draw_distinct, rows, split, negatives, max_item)
    return split_sequences(rows, split, drawn, skipped=skipped, facts=facts)

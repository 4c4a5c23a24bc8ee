"""Interactions of a source with splits, evaluation negatives and original ids, before they are written.

Legend: R interactions, V rows of one evaluation split, N negatives per row, U users, I items.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from stemlab.array_types import Int32Array, Int64Array, IntegerArray
from stemlab.data.prepare.split import SPLITS
from stemlab.data.sequence.interactions import NumberedInteractions
from stemlab.errors import StemlabError


@dataclass(frozen=True, kw_only=True, eq=False, slots=True)
class RawSequences:
    """Interactions of a dataset.

    Rows may be in any order: the writer sorts them by (user, time), and interactions of a user in the same second keep
    this order. In the ReChorus protocol train rows come first, then valid, then test, each in file order. Repeated rows
    are kept.

    Attributes:
        user: (R,) user ids, 1 to U.
        item: (R,) item ids, 1 to I.
        time: (R,) seconds since 1970.
        split: (R,) 0 train, 1 valid, 2 test.
        user_tokens: U original user ids; user ``u`` has ``user_tokens[u - 1]``.
        item_tokens: I original item ids, likewise.
        negatives: split -> (V, N) item ids that the positive of each row is ranked against, in the order of the split's
            rows; no entry if none are stored.
        categories: (I,) category name of every item in the order of ``item_tokens``, ``None`` for items without one;
            ``None`` if the source has no categories or ``SequenceDataModule.read_categories`` reads them separately.
        skipped: number of invalid raw rows that were skipped.
        facts: further entries of the manifest (plain JSON values).
    """

    user: IntegerArray
    item: IntegerArray
    time: IntegerArray
    split: IntegerArray
    user_tokens: Sequence[str]
    item_tokens: Sequence[str]
    negatives: Mapping[str, IntegerArray] = field(default_factory=dict)
    categories: Sequence[str | None] | None = None
    skipped: int = 0
    facts: Mapping[str, Any] = field(default_factory=dict)

    @property
    def users(self) -> int:
        """U, the number of users."""
        return len(self.user_tokens)

    @property
    def items(self) -> int:
        """I, the number of items."""
        return len(self.item_tokens)

    def positives_among_negatives(self, split: str) -> int:
        """Return the number of rows of a split whose positive is also among their negatives (a certain tie)."""
        positive = self.item[self.split == SPLITS.index(split)]
        return int((self.negatives[split] == positive[:, None]).any(axis=1).sum())

    def check(self, name: str) -> None:
        """Check ids and negatives.

        Args:
            name: dataset name, for messages.

        Raises:
            StemlabError: there are no rows, an id is out of range, or negatives do not match the rows of their split.
        """
        if not len(self.user):
            raise StemlabError(f"the raw files of dataset {name!r} have no usable row: add interactions.")
        for column, values, max_id in (("user", self.user, self.users), ("item", self.item, self.items)):
            _check_ids(f"dataset {name!r}, interaction", column, values, max_id)
        for split, negatives in self.negatives.items():
            rows = int((self.split == SPLITS.index(split)).sum())
            if len(negatives) != rows:
                raise StemlabError(
                    f"dataset {name!r} has negatives for {len(negatives)} of {rows} {split} rows: "
                    "every row of the file needs a list."
                )
            _check_ids(f"dataset {name!r}, negatives of {split} row", "item", negatives, self.items)


def split_sequences(
    rows: NumberedInteractions,
    split: Int64Array,
    negatives: Mapping[str, Int32Array],
    *,
    skipped: int,
    facts: Mapping[str, Any],
) -> RawSequences:
    """Return interactions as the rows of train, valid and test, each in the order of ``rows``.

    Args:
        rows: the interactions.
        split: (R,) 0 train, 1 valid, 2 test.
        negatives: split -> negatives of its rows (``RawSequences``).
        skipped: number of invalid raw rows that were skipped.
        facts: further entries of the manifest.
    """
    order = np.argsort(split, kind="stable")
    return RawSequences(
        user=rows.user[order],
        item=rows.item[order],
        time=rows.time[order],
        split=split[order],
        user_tokens=rows.user_tokens,
        item_tokens=rows.item_tokens,
        negatives=negatives,
        skipped=skipped,
        facts=facts,
    )


def _check_ids(where: str, column: str, values: IntegerArray, max_id: int) -> None:
    wrong = np.argwhere((values < 1) | (values > max_id))
    if len(wrong):
        index = tuple(wrong[0])
        raise StemlabError(
            f"{where} {index[0] + 1}: {column} id {values[index]} is unknown (ids are 1 to {max_id}); "
            "correct the raw files."
        )

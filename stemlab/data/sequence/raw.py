"""What a source hands over: every interaction with its split, candidates of the evaluation, original ids.

Legend: R interactions, V rows of one evaluated split, N negatives a row.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from stemlab.array_types import IntegerArray
from stemlab.data.prepare.split import SPLITS
from stemlab.errors import StemlabError


@dataclass(frozen=True, kw_only=True, eq=False, slots=True)
class RawSequences:
    """The interactions of a dataset.

    Rows may come in any order: they are sorted by (user, time), and interactions of a user in the same second keep the
    order given here. The published protocol (ReChorus) gives the train rows first, then valid, then test, each in file
    order. Equal rows are all kept.

    Attributes:
        user: (R,) user ids, 1 to U.
        item: (R,) item ids, 1 to I.
        time: (R,) seconds since 1970.
        split: (R,) 0 train, 1 valid, 2 test.
        user_tokens: original ids; that of user ``u`` is ``user_tokens[u - 1]``, their number is U.
        item_tokens: likewise of the items; their number is I.
        negatives: split -> (V, N) item ids that the positive of each row is ranked against, in the order of the split's
            rows here; no entry where none are stored.
        categories: (I,) the category of every item in the order of ``item_tokens``, ``None`` for an item without one;
            ``None`` where the source tells none, or they are read apart (``SequenceDataModule.read_categories``).
        skipped: bad raw rows left out.
        facts: what else the manifest should tell (plain JSON values).
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
        """U."""
        return len(self.user_tokens)

    @property
    def items(self) -> int:
        """I."""
        return len(self.item_tokens)

    def positives_among_negatives(self, split: str) -> int:
        """Return how many rows of a split have their own positive among their negatives; it ties with itself there."""
        positive = self.item[self.split == SPLITS.index(split)]
        return int((self.negatives[split] == positive[:, None]).any(axis=1).sum())

    def check(self, name: str) -> None:
        """Refuse ids and negatives that cannot be.

        Args:
            name: the dataset's, for messages.

        Raises:
            StemlabError: no rows, an id out of range, negatives that do not fit their split.
        """
        if not len(self.user):
            raise StemlabError(f"the raw files of dataset {name!r} have no usable row: give files with interactions.")
        for column, values, most in (("user", self.user, self.users), ("item", self.item, self.items)):
            _check_ids(f"dataset {name!r}, interaction", column, values, most)
        for split, negatives in self.negatives.items():
            rows = int((self.split == SPLITS.index(split)).sum())
            if len(negatives) != rows:
                raise StemlabError(
                    f"dataset {name!r} has negatives for {len(negatives)} of {rows} {split} rows: "
                    "give every row of the file its list."
                )
            _check_ids(f"dataset {name!r}, negatives of {split} row", "item", negatives, self.items)


def _check_ids(where: str, column: str, values: IntegerArray, most: int) -> None:
    wrong = np.argwhere((values < 1) | (values > most))
    if len(wrong):
        place = tuple(wrong[0])
        raise StemlabError(
            f"{where} {place[0] + 1}: {column} id {values[place]} is unknown (ids are 1 to {most}); mend the raw files."
        )

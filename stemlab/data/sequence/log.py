"""The interaction log: every interaction of every user once, in the order of (user, time), mapped into memory.

A user's sequence is the rows ``start[u]`` to ``stop[u]``; a history is a part of it, so no list is ever stored.

Legend: R interactions, U users, B users of a request.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from stemlab.array_types import AnyArray, Int8Array, Int32Array, Int64Array
from stemlab.data.sequence.columns import map_columns

NO_GAP = 0xFFFF
"""Unit of users without a positive gap, and the longest unit there is (published TiSASRec)."""


class InteractionLog:
    """Read-only, zero-copy columns. Pickles by path.

    Args:
        directory: prepared directory (``stemlab.data.sequence.prepare``).

    Attributes:
        directory: that directory.
        user: (R,) int32, ascending.
        item: (R,) int32.
        time: (R,) int64 seconds, ascending for each user; equal times keep the order of the raw rows.
        split: (R,) int8: 0 train, 1 valid, 2 test.
        start: (U + 1,) int64 first row of each user; entry 0 is padding.
        stop: (U + 1,) int64 row after the last.
        unit: (U + 1,) int64 seconds, each user's smallest positive gap between interactions of any split, at most
            ``NO_GAP``; so also that of users without a positive gap.

    Raises:
        StemlabError: a file is missing or damaged.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = Path(directory)
        self._open()

    def _open(self) -> None:
        rows, users = map_columns(self.directory / "log.arrow"), map_columns(self.directory / "users.arrow")
        self.user: Int32Array = rows["user"]
        self.item: Int32Array = rows["item"]
        self.time: Int64Array = rows["time"]
        self.split: Int8Array = rows["split"]
        self.start: Int64Array = users["start"]
        self.stop: Int64Array = users["stop"]
        self.unit: Int64Array = users["unit"]

    def __len__(self) -> int:
        return len(self.user)

    @property
    def users(self) -> int:
        """U."""
        return len(self.start) - 1

    def pairs(self, split: int | None = None) -> tuple[Int32Array, Int32Array]:
        """Return user and item of every interaction of one split (0, 1, 2), or of all."""
        if split is None:
            return self.user, self.item
        kept = np.flatnonzero(self.split == split)
        return self.user[kept], self.item[kept]

    def items_of(self, user_B: AnyArray) -> tuple[Int32Array, Int64Array]:
        """Return all items of some users, oldest first.

        Args:
            user_B: (B,) user ids.

        Returns:
            The items one user after the other, flat int32, and (B + 1,) int64 offsets: those of ``user_B[b]`` are
            ``flat[offsets[b]:offsets[b + 1]]``. An item that occurs twice is there twice.
        """
        start_B = self.start[user_B]
        count_B = self.stop[user_B] - start_B
        offsets = np.concatenate([[0], np.cumsum(count_B)])
        rows = np.arange(offsets[-1]) + np.repeat(start_B - offsets[:-1], count_B)
        return self.item[rows], offsets

    def __getstate__(self) -> dict[str, Any]:
        return {"directory": self.directory}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.directory = state["directory"]
        self._open()


class Instances:
    """The instances of one split: the rows of the log to predict, each with something before it. Pickles by path.

    Args:
        directory: prepared directory.
        split: ``train``, ``valid`` or ``test``.
        first_interactions: training only: every row is an instance, also those with nothing before them.

    Attributes:
        row: (V,) int64 rows of the log, ascending.
        negatives: (V, N) int32 items that the positive is ranked against, or ``None`` where none are stored.
    """

    def __init__(self, directory: Path, split: str, first_interactions: bool = False) -> None:
        self.path, self.first_interactions = Path(directory) / f"{split}.arrow", first_interactions
        self._open()

    def _open(self) -> None:
        columns = map_columns(self.path)
        self.row: Int64Array = columns["row"]
        if self.first_interactions:
            self.row = np.flatnonzero(map_columns(self.path.with_name("log.arrow"))["split"] == 0)
        self.negatives: Int32Array | None = columns.get("negatives")

    def __len__(self) -> int:
        return len(self.row)

    def __getstate__(self) -> dict[str, Any]:
        return {"path": self.path, "first_interactions": self.first_interactions}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.path, self.first_interactions = state["path"], state["first_interactions"]
        self._open()

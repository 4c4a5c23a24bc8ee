"""Memory-mapped interaction log: all interactions sorted by (user, time).

The sequence of user ``u`` is the row range ``start[u]`` to ``stop[u]``; a history is a part of this range, so no
lists are stored.

Legend: R interactions, U users, B requested users, V instances, N negatives per instance.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from stemlab.array_types import AnyArray, Int8Array, Int32Array, Int64Array
from stemlab.data.sequence.columns import map_columns

MAX_TIME_UNIT = 0xFFFF
"""Seconds: largest time unit, and the unit of users without a positive gap (released code of TiSASRec)."""


class InteractionLog:
    """Read-only, memory-mapped columns. Only the path is pickled.

    Args:
        directory: prepared directory (``stemlab.data.sequence.prepare``).

    Attributes:
        directory: the prepared directory.
        user: (R,) int32 user ids, ascending.
        item: (R,) int32 item ids.
        time: (R,) int64 seconds, ascending per user; ties keep the order of the raw rows.
        split: (R,) int8: 0 train, 1 valid, 2 test.
        start: (U + 1,) int64 first row of each user; entry 0 is padding.
        stop: (U + 1,) int64 row after each user's last row.
        unit: (U + 1,) int64 seconds: the user's smallest positive gap between interactions of any split, at most
            ``MAX_TIME_UNIT``, which users without a positive gap have too.

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
        """U, the number of users."""
        return len(self.start) - 1

    def pairs(self, split: int | None = None) -> tuple[Int32Array, Int32Array]:
        """Return the user and item ids of all interactions of a split (0, 1, 2), or of all splits."""
        if split is None:
            return self.user, self.item
        kept = np.flatnonzero(self.split == split)
        return self.user[kept], self.item[kept]

    def items_of(self, user_B: AnyArray) -> tuple[Int32Array, Int64Array]:
        """Return all items of users, oldest first.

        Args:
            user_B: (B,) user ids.

        Returns:
            Flat int32 item ids, grouped by user, and (B + 1,) int64 offsets: user ``user_B[b]`` has the items
            ``flat[offsets[b]:offsets[b + 1]]``. Repeated interactions are repeated.
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
    """Instances of one split: rows of the log to predict, with at least one earlier interaction.

    Only the path is pickled.

    Args:
        directory: prepared directory.
        split: ``train``, ``valid`` or ``test``.
        first_interactions: training only: users' first interactions are instances too, with an empty history.

    Attributes:
        row: (V,) int64 rows of the log, ascending.
        negatives: (V, N) int32 items that the positive is ranked against, or ``None`` if none are stored.
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

"""For whom items are chosen: users of the dataset, or histories from a file.

Legend: B users of a batch, R interactions of a file, G users of the audience.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch

from stemlab.array_types import AnyArray, Int64Array
from stemlab.data.batch import SequenceBatch
from stemlab.data.sequence.datamodule import SequenceDataModule
from stemlab.data.sequence.histories import read_histories
from stemlab.data.sequence.writer import smallest_gaps


class TargetUsers(Protocol):
    """Users in a fixed order, taken batch by batch.

    Attributes:
        skipped: what was left out and how often (``unknown users`` -> 2).
    """

    skipped: dict[str, int]

    def __len__(self) -> int:
        """Number of users."""

    def names(self, rows: slice) -> list[str]:
        """Return the original ids of some of them."""

    def batch(self, rows: slice) -> SequenceBatch:
        """Return their histories; the only candidate is padding."""

    def seen(self, rows: slice) -> tuple[AnyArray, AnyArray]:
        """Return all items they have seen, flat, and (B + 1,) offsets."""


class DatasetUsers:
    """Users of the prepared dataset, with everything that is known of them.

    Args:
        data: the prepared dataset.
        user_G: their ids; ``None`` are all that have interactions.
        skipped: what was left out on the way here.
    """

    def __init__(
        self, data: SequenceDataModule, user_G: Int64Array | None = None, skipped: dict[str, int] | None = None
    ):
        self._data, self.skipped = data, skipped or {}
        self._user_G = np.flatnonzero(data.log.stop > data.log.start) if user_G is None else user_G

    def __len__(self) -> int:
        return len(self._user_G)

    def names(self, rows: slice) -> list[str]:
        """Return original ids."""
        tokens = self._data.user_tokens
        return [tokens[user - 1] for user in self._user_G[rows].tolist()]

    def batch(self, rows: slice) -> SequenceBatch:
        """Return whole histories: the last H of all splits."""
        return self._data.whole_histories(self._user_G[rows])

    def seen(self, rows: slice) -> tuple[AnyArray, AnyArray]:
        """Return the items of all splits."""
        return self._data.seen_items(self._user_G[rows])


@dataclass(frozen=True, slots=True, eq=False)
class UserHistories:
    """Interactions of a file, user after user in the order in which they first occur, each user's by time.

    Attributes:
        item: (R,) int64 item ids.
        time: (R,) int64 seconds.
        start: (G,) first row of each user.
        stop: (G,) row after the last.
        user: (G,) ids; 0 where the dataset does not know the user.
        name: (G,) original ids.
    """

    item: Int64Array
    time: Int64Array
    start: Int64Array
    stop: Int64Array
    user: Int64Array
    name: Sequence[str]


class FileUsers:
    """Users whose histories come from a file; that file is all that is known of them.

    Args:
        data: the prepared dataset, for H and for whether times are told.
        rows: the interactions.
        skipped: what was left out on the way here.
    """

    def __init__(self, data: SequenceDataModule, rows: UserHistories, skipped: dict[str, int]) -> None:
        self._data, self._rows, self.skipped = data, rows, skipped
        owner_R = np.repeat(np.arange(1, len(rows.start) + 1), rows.stop - rows.start)
        self._unit_G = smallest_gaps(owner_R, rows.time, len(rows.start))[1:]

    def __len__(self) -> int:
        return len(self._rows.start)

    def names(self, rows: slice) -> list[str]:
        """Return original ids."""
        return list(self._rows.name[rows])

    def batch(self, rows: slice) -> SequenceBatch:
        """Return the last H items of each history."""
        log, data = self._rows, self._data
        history = read_histories(log, log.start[rows], log.stop[rows], data.history_max, data.times)
        user_B = torch.from_numpy(log.user[rows].copy())
        return SequenceBatch(
            user_B=user_B,
            history_BL=torch.from_numpy(history.item_BL),
            length_B=torch.from_numpy(history.length_B),
            candidates_BN=torch.zeros(len(user_B), 1, dtype=torch.int64),
            time_BL=None if history.time_BL is None else torch.from_numpy(history.time_BL),
            unit_B=torch.from_numpy(self._unit_G[rows].copy()) if data.times else None,
        )

    def seen(self, rows: slice) -> tuple[AnyArray, AnyArray]:
        """Return the items of the file."""
        start_B, stop_B = self._rows.start[rows], self._rows.stop[rows]
        offsets = np.concatenate([[0], np.cumsum(stop_B - start_B)])
        return self._rows.item[start_B[0] : stop_B[-1]], offsets

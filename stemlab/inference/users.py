"""Users to recommend for: users of the dataset, or users whose histories are in a file.

Legend: B users of a batch, H history length, L longest history of a batch, R interactions of a file, G users in total.
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
    """Users in a fixed order, read in batches.

    Attributes:
        skipped: what was skipped -> how many (``unknown users`` -> 2).
    """

    skipped: dict[str, int]

    def __len__(self) -> int:
        """Number of users."""

    def names(self, rows: slice) -> list[str]:
        """Return the original ids of a slice of the users."""

    def batch(self, rows: slice) -> SequenceBatch:
        """Return the histories of a slice of the users; padding is the only candidate."""

    def seen(self, rows: slice) -> tuple[AnyArray, AnyArray]:
        """Return all items seen by a slice of the users, concatenated, and (B + 1,) offsets."""


class DatasetUsers:
    """Users of the prepared dataset, with the interactions of all splits.

    Args:
        data: the prepared dataset.
        user_G: (G,) user ids; ``None`` for all users with interactions.
        skipped: what was skipped -> how many.
    """

    def __init__(
        self, data: SequenceDataModule, user_G: Int64Array | None = None, skipped: dict[str, int] | None = None
    ):
        self._data, self.skipped = data, skipped or {}
        self._user_G = np.flatnonzero(data.log.stop > data.log.start) if user_G is None else user_G

    def __len__(self) -> int:
        return len(self._user_G)

    def names(self, rows: slice) -> list[str]:
        """Return the original ids of a slice of the users."""
        tokens = self._data.user_tokens
        return [tokens[user - 1] for user in self._user_G[rows].tolist()]

    def batch(self, rows: slice) -> SequenceBatch:
        """Return the last H interactions of all splits."""
        return self._data.whole_histories(self._user_G[rows])

    def seen(self, rows: slice) -> tuple[AnyArray, AnyArray]:
        """Return the items of all splits, concatenated, and (B + 1,) offsets."""
        return self._data.seen_items(self._user_G[rows])


@dataclass(frozen=True, slots=True, eq=False)
class UserHistories:
    """Interactions of a file, grouped by user in the order of their first occurrence, each group sorted by time.

    Attributes:
        item: (R,) int64 item ids.
        time: (R,) int64 seconds.
        start: (G,) position of the first interaction of each user.
        stop: (G,) position after the last one.
        user: (G,) int64 user ids; 0 for users who are not in the dataset.
        name: (G,) original ids.
    """

    item: Int64Array
    time: Int64Array
    start: Int64Array
    stop: Int64Array
    user: Int64Array
    name: Sequence[str]


class FileUsers:
    """Users whose histories are in a file; interactions in the dataset are ignored.

    Args:
        data: the prepared dataset: H, and whether batches contain times.
        histories: the interactions.
        skipped: what was skipped -> how many.
    """

    def __init__(self, data: SequenceDataModule, histories: UserHistories, skipped: dict[str, int]) -> None:
        self._data, self._histories, self.skipped = data, histories, skipped
        owner_R = np.repeat(np.arange(1, len(histories.start) + 1), histories.stop - histories.start)
        self._unit_G = smallest_gaps(owner_R, histories.time, len(histories.start))[1:]

    def __len__(self) -> int:
        return len(self._histories.start)

    def names(self, rows: slice) -> list[str]:
        """Return the original ids of a slice of the users."""
        return list(self._histories.name[rows])

    def batch(self, rows: slice) -> SequenceBatch:
        """Return the last H items of each history."""
        log, data = self._histories, self._data
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
        """Return the items of the file, concatenated, and (B + 1,) offsets."""
        start_B, stop_B = self._histories.start[rows], self._histories.stop[rows]
        offsets = np.concatenate([[0], np.cumsum(stop_B - start_B)])
        return self._histories.item[start_B[0] : stop_B[-1]], offsets

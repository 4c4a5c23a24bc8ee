"""Order of the training samples of a split that is read in blocks, for splits larger than memory.

The rows of the split are cut into blocks of consecutive rows. An epoch permutes the blocks, groups them into windows of
up to ``WINDOW_BLOCKS`` blocks, and permutes the rows of each window. Only a window and the next one are in memory. Both
permutations follow from (seed, epoch), so batches are the same on any number of ranks, as those of ``ShuffledOrder``.
Quality of the shuffle: docs/running.md#data-larger-than-memory.

Legend: R samples of the split, K blocks, W windows.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from stemlab.array_types import AnyArray, Int64Array
from stemlab.data.batch_order import ShuffledOrder
from stemlab.data.draw_ahead import DrawAhead
from stemlab.data.resident import RowSelection

WINDOW_BLOCKS = 256
"""Blocks of a window."""
WINDOW_ROWS = 1 << 21
"""Rows of a window by default: 88 MB of the TikTok columns."""


@dataclass(frozen=True, slots=True)
class EpochWindows:
    """Windows of one epoch.

    Attributes:
        blocks: numbers of the blocks of each window, in the order in which they are in memory.
        starts: (W + 1,) int64 number of samples before each window; the last entry is R.
        window_of_block: (K,) int64.
        position_of_block: (K,) int64 position of a block's first row in its window.
    """

    blocks: list[Int64Array]
    starts: Int64Array
    window_of_block: Int64Array
    position_of_block: Int64Array


class WindowedOrder(ShuffledOrder):
    """Every sample once per epoch, from one window after the other.

    Args:
        rows: number of samples in the split.
        batch_size: samples per batch on one rank.
        seed: determines the order together with the epoch number.
        rank: rank of this process.
        world_size: number of processes; each gets the same number of batches of the same sizes.
        window_rows: largest number of rows of a window; a block has ``window_rows / WINDOW_BLOCKS`` rows,
            at least one.

    Raises:
        StemlabError: there are fewer samples than processes.
    """

    def __init__(
        self,
        rows: int,
        batch_size: int,
        seed: int,
        rank: int = 0,
        world_size: int = 1,
        window_rows: int = WINDOW_ROWS,
    ) -> None:
        super().__init__(rows, batch_size, seed, rank, world_size)
        per_window = min(WINDOW_BLOCKS, window_rows)
        self.window_rows, self.block_rows = window_rows, window_rows // per_window
        self.blocks = -(-rows // self.block_rows)
        self.windows = -(-self.blocks // per_window)
        self._epoch_windows: tuple[int, EpochWindows] | None = None
        self._drawn = DrawAhead(self._draw)

    def windows_of(self, epoch: int) -> EpochWindows:
        """Return the windows of an epoch."""
        known = self._epoch_windows
        if known is None or known[0] != epoch:
            self._epoch_windows = known = epoch, self._assign_blocks(epoch)
        return known[1]

    def key(self, window: int) -> int:
        """Return a number that is unique to a window of this epoch; that of the next window is one more."""
        return self.epoch * self.windows + window

    def permutation(self) -> AnyArray:
        """Return the row numbers of the whole epoch, (R,)."""
        return np.concatenate([self._draw(self.key(window)) for window in range(self.windows)])

    def draw_ahead(self) -> None:
        """Do nothing: each window is drawn while the one before is used."""

    def batches(self, start: int = 0) -> Iterator[RowSelection]:
        """Yield the row numbers of this rank's batches, from batch ``start`` on."""
        starts = self.windows_of(self.epoch).starts
        for step in range(start, len(self)):
            size = self.batch_length(step)
            first = step * self.batch_size * self.world_size + self.rank * size
            yield self._samples(starts, first, first + size)

    def _samples(self, starts: Int64Array, first: int, stop: int) -> AnyArray:
        """Return the row numbers of consecutive samples of the epoch."""
        window = int(np.searchsorted(starts, first, side="right")) - 1
        parts = []
        while True:
            rows = self._drawn.of(self.key(window))
            if window + 1 < self.windows:
                self._drawn.start(self.key(window + 1))
            parts.append(rows[max(0, first - starts[window]) : stop - starts[window]])
            if stop <= starts[window + 1]:
                return parts[0] if len(parts) == 1 else np.concatenate(parts)
            window += 1

    def _draw(self, key: int) -> AnyArray:
        """Return the permuted row numbers of a window."""
        epoch, window = divmod(key, self.windows)
        dtype = np.int32 if self.rows <= np.iinfo(np.int32).max else np.int64
        first_K = self.windows_of(epoch).blocks[window] * self.block_rows
        rows = (first_K[:, None] + np.arange(self.block_rows)).reshape(-1)
        rows = rows[rows < self.rows].astype(dtype)
        order = np.random.default_rng([self.seed, epoch, window + 1]).permutation(len(rows))
        return rows[order]  # half of the time of permuting int32 rows

    def _assign_blocks(self, epoch: int) -> EpochWindows:
        order = np.random.default_rng([self.seed, epoch, 0]).permutation(self.blocks)
        groups = np.array_split(order, self.windows)  # of equal size, so that no window has only a few blocks
        window_of, position_of = np.empty(self.blocks, np.int64), np.empty(self.blocks, np.int64)
        starts = np.zeros(self.windows + 1, np.int64)
        for window, group in enumerate(groups):
            ends = np.cumsum(np.minimum(self.block_rows, self.rows - group * self.block_rows))
            window_of[group], position_of[group] = window, np.concatenate([[0], ends[:-1]])
            starts[window + 1] = starts[window] + ends[-1]
        return EpochWindows(groups, starts, window_of, position_of)

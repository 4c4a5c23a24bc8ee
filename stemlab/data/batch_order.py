"""Which samples each rank reads in each step of an epoch; no data.

* ``ShuffledOrder`` (training): all ranks draw the same permutation from (seed, epoch). Each step takes the next
  ``batch_size * world_size`` samples, ``batch_size`` per rank, so two ranks with batch size b read in a step the same
  samples as one process with batch size 2b. The last, smaller step is divided equally; at most ``world_size - 1``
  samples per epoch (different ones each epoch) are dropped, none in a single process. If a single sample per rank is
  left over, it joins the step before it, for every model: batch normalisation cannot train on one sample.
* ``SequentialOrder`` (evaluation): consecutive batches are assigned to the ranks in turn (batch i to rank
  ``i % world_size``). Every sample is evaluated exactly once, and in the same batch regardless of world size.

Legend: R samples of the split.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Protocol

import numpy as np
from torch import distributed

from stemlab.array_types import AnyArray
from stemlab.data.draw_ahead import DrawAhead
from stemlab.data.resident import RowSelection
from stemlab.errors import StemlabError

MIN_EVAL_BATCHES = 16
"""Small splits are evaluated in smaller batches, so that each of up to 16 ranks has at least one batch."""


class BatchOrder(Protocol):
    """Samples of this rank's batches in an epoch."""

    epoch: int
    window_rows: int  # rows of a window of the training samples; 0: the order has no windows

    def __len__(self) -> int: ...

    def batches(self, start: int = 0) -> Iterator[RowSelection]:
        """Yield the samples of batch ``start``, ``start + 1``, ..."""

    def batch_length(self, step: int) -> int:
        """Return the number of samples of this rank's batch ``step``; all but the last batch have equally many."""

    def set_epoch(self, epoch: int) -> None:
        """Select the epoch of the following batches."""

    def draw_ahead(self) -> None:
        """Draw in a thread what the next epoch needs."""


def current_rank() -> tuple[int, int]:
    """Return (rank, world size) of this process: (0, 1) unless ``torch.distributed`` is running."""
    if distributed.is_available() and distributed.is_initialized():
        return distributed.get_rank(), distributed.get_world_size()
    return 0, 1


def training_steps(samples: int, batch_size: int) -> int:
    """Return the number of training steps per epoch; a single sample left over joins the last step.

    Args:
        samples: training samples per rank.
        batch_size: samples per step on one rank.
    """
    steps = -(-samples // batch_size)
    return steps - 1 if steps > 1 and samples % batch_size == 1 else steps


def evaluation_batch_size(batch_size: int, rows: int) -> int:
    """Return the size of the batches in which a split is evaluated, on any number of ranks.

    Args:
        batch_size: largest size.
        rows: samples of the split.
    """
    return min(batch_size, max(1, rows // MIN_EVAL_BATCHES))


def order_state(order: BatchOrder) -> dict[str, int]:
    """Return what a checkpoint within an epoch must hold of the order of its samples, beside seed and position."""
    return {"window_rows": order.window_rows} if order.window_rows else {}


def check_same_order(order: BatchOrder, state: Mapping[str, int]) -> None:
    """Raise StemlabError if a loader's state within an epoch belongs to an order with other windows."""
    saved = int(state.get("window_rows", 0))
    if saved != order.window_rows and 0 < int(state["batch"]) < len(order):
        raise StemlabError(
            f"the checkpoint is within an epoch that was read with {_reading(saved)}, this run reads with "
            f"{_reading(order.window_rows)}: set {_reading(saved)} to resume, or resume from the end of an epoch."
        )


def _reading(window_rows: int) -> str:
    return f"dataset.reading=blocks dataset.window_rows={window_rows}" if window_rows else "dataset.reading=memory"


class ShuffledOrder:
    """A new permutation of all samples in each epoch, the same on all ranks.

    Args:
        rows: number of samples in the split.
        batch_size: samples per batch on one rank.
        seed: determines the permutation together with the epoch number.
        rank: rank of this process.
        world_size: number of processes; each gets the same number of batches of the same sizes.

    Raises:
        StemlabError: there are fewer samples than processes.
    """

    window_rows = 0

    def __init__(self, rows: int, batch_size: int, seed: int, rank: int = 0, world_size: int = 1) -> None:
        if rows < world_size:
            raise StemlabError(
                f"{rows} training samples are too few for {world_size} processes: "
                "use fewer trainer.devices or more data."
            )
        self.rows, self.batch_size, self.seed, self.rank, self.world_size = rows, batch_size, seed, rank, world_size
        self.epoch = 0
        self._drawn = DrawAhead(self._draw)
        self.step_rows: AnyArray | None = None  # of all ranks in the step of the last batch; None with one rank

    def set_epoch(self, epoch: int) -> None:
        """Select the permutation of ``epoch``."""
        self.epoch = epoch

    def __len__(self) -> int:
        return training_steps(self.rows // self.world_size, self.batch_size)

    def permutation(self) -> AnyArray:
        """Return the permutation of this epoch, (R,) int32 (int64 if R exceeds int32)."""
        return self._drawn.of(self.epoch)

    def draw_ahead(self) -> None:
        """Draw the permutation of the next epoch in a thread."""
        self._drawn.start(self.epoch + 1)

    def _draw(self, epoch: int) -> AnyArray:
        dtype = np.int32 if self.rows <= np.iinfo(np.int32).max else np.int64
        return np.random.default_rng([self.seed, epoch]).permutation(np.arange(self.rows, dtype=dtype))

    def batches(self, start: int = 0) -> Iterator[RowSelection]:
        """Yield the row numbers of this rank's batches, from batch ``start`` on."""
        order = self.permutation()
        for step in range(start, len(self)):
            size = self.batch_length(step)
            first = step * self.batch_size * self.world_size
            rows = order[first : first + self.world_size * size]
            self.step_rows = rows if self.world_size > 1 else None
            yield rows[self.rank * size : (self.rank + 1) * size]

    def batch_length(self, step: int) -> int:
        """Return the number of samples of this rank's batch ``step``."""
        last = step == len(self) - 1
        return self.rows // self.world_size - step * self.batch_size if last else self.batch_size


class SequentialOrder:
    """Consecutive samples in batches; batch i belongs to rank ``i % world_size``.

    Args:
        rows: number of samples in the split.
        batch_size: largest batch; batches of a small split are smaller (``MIN_EVAL_BATCHES``), for any world size.
        rank: rank of this process.
        world_size: number of processes.

    Raises:
        StemlabError: a process would have no batch.
    """

    epoch = window_rows = 0

    def __init__(self, rows: int, batch_size: int, rank: int = 0, world_size: int = 1) -> None:
        self.rows, self.rank, self.world_size = rows, rank, world_size
        self.batch_size = evaluation_batch_size(batch_size, rows)
        self.total = -(-rows // self.batch_size)
        if self.total < world_size:
            raise StemlabError(
                f"{rows} samples make {self.total} evaluation batches of {self.batch_size}, too few for {world_size} "
                "processes: lower dataset.eval_batch_size or use fewer trainer.devices."
            )

    def set_epoch(self, epoch: int) -> None:
        """Do nothing: every epoch is the same."""

    def draw_ahead(self) -> None:
        """Do nothing: no number is drawn."""

    def __len__(self) -> int:
        return len(range(self.rank, self.total, self.world_size))

    def batches(self, start: int = 0) -> Iterator[RowSelection]:
        """Yield slices of consecutive rows."""
        for step in range(start, len(self)):
            first = (self.rank + step * self.world_size) * self.batch_size
            yield slice(first, first + self.batch_length(step))

    def batch_length(self, step: int) -> int:
        """Return the number of samples of this rank's batch ``step``."""
        first = (self.rank + step * self.world_size) * self.batch_size
        return min(self.batch_size, self.rows - first)

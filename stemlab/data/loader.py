"""Loaders that gather batches from memory-mapped columns, distribute them over ranks, and can be resumed.

A batch is one gather (training) or one slice (evaluation) of each column; there is no per-sample access. A *batch
order*, a small object without data, decides which samples each rank reads:

* ``ShuffledOrder`` (training): all ranks draw the same permutation from (seed, epoch). Each step takes the next
  ``batch_size * world_size`` samples, ``batch_size`` per rank, so two ranks with batch size b read in a step the same
  samples as one process with batch size 2b. The last, smaller step is divided equally; at most ``world_size - 1``
  samples per epoch (different ones each epoch) are dropped, none in a single process. If a single sample per rank is
  left over, it joins the step before it, for every model: batch normalisation cannot train on one sample.
* ``SequentialOrder`` (evaluation): consecutive batches are assigned to the ranks in turn (batch i to rank
  ``i % world_size``). Every sample is evaluated exactly once, and in the same batch regardless of world size.

Legend: B samples in the batch, F fields, N numerical fields, T tasks, R samples of the split.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import Generic, Protocol, TypeVar

import numpy as np
import torch
from torch import Tensor, distributed

from stemlab.array_types import AnyArray
from stemlab.data.batch import ImpressionBatch, TensorBatch
from stemlab.data.resident import Columns, RowSelection, Uploads, rows_on
from stemlab.errors import StemlabError

Batch = TypeVar("Batch", bound=TensorBatch)

MIN_EVAL_BATCHES = 16
"""Small splits are evaluated in smaller batches, so that each of up to 16 ranks has at least one batch."""


class ImpressionColumns(Protocol):
    """Columns that a loader reads (``stemlab.data.store.ColumnStore``, or arrays of equal length)."""

    @property
    def ids(self) -> AnyArray:
        """(R, F) int32."""

    @property
    def labels(self) -> AnyArray:
        """(R, T) int8."""

    @property
    def group(self) -> AnyArray | None:
        """(R,) int64 raw group keys, or ``None``."""

    @property
    def dense(self) -> AnyArray | None:
        """(R, N) float32, or ``None``."""

    @property
    def scenario(self) -> AnyArray | None:
        """(R,) int32, or ``None``."""

    def __len__(self) -> int: ...


class BatchOrder(Protocol):
    """Samples of this rank's batches in an epoch."""

    epoch: int

    def __len__(self) -> int: ...

    def batches(self, start: int = 0) -> Iterator[RowSelection]:
        """Yield the samples of batch ``start``, ``start + 1``, ..."""

    def batch_length(self, step: int) -> int:
        """Return the number of samples of this rank's batch ``step``; all but the last batch have equally many."""

    def set_epoch(self, epoch: int) -> None:
        """Select the epoch of the following batches."""


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

    def __init__(self, rows: int, batch_size: int, seed: int, rank: int = 0, world_size: int = 1) -> None:
        if rows < world_size:
            raise StemlabError(
                f"{rows} training samples are too few for {world_size} processes: "
                "use fewer trainer.devices or more data."
            )
        self.rows, self.batch_size, self.seed, self.rank, self.world_size = rows, batch_size, seed, rank, world_size
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Select the permutation of ``epoch``."""
        self.epoch = epoch

    def __len__(self) -> int:
        return training_steps(self.rows // self.world_size, self.batch_size)

    def permutation(self) -> AnyArray:
        """Return the permutation of this epoch, (R,) int32 (int64 if R exceeds int32)."""
        dtype = np.int32 if self.rows <= np.iinfo(np.int32).max else np.int64
        return np.random.default_rng([self.seed, self.epoch]).permutation(np.arange(self.rows, dtype=dtype))

    def batches(self, start: int = 0) -> Iterator[RowSelection]:
        """Yield the row numbers of this rank's batches, from batch ``start`` on."""
        order = self.permutation()
        for step in range(start, len(self)):
            size = self.batch_length(step)
            first = step * self.batch_size * self.world_size + self.rank * size
            yield order[first : first + size]

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

    epoch = 0

    def __init__(self, rows: int, batch_size: int, rank: int = 0, world_size: int = 1) -> None:
        self.rows, self.rank, self.world_size = rows, rank, world_size
        self.batch_size = min(batch_size, max(1, rows // MIN_EVAL_BATCHES))
        self.total = -(-rows // self.batch_size)
        if self.total < world_size:
            raise StemlabError(
                f"{rows} samples make {self.total} evaluation batches of {self.batch_size}, too few for {world_size} "
                "processes: lower dataset.eval_batch_size or use fewer trainer.devices."
            )

    def set_epoch(self, epoch: int) -> None:
        """Do nothing: every epoch is the same."""

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


class OrderedLoader(Generic[Batch], ABC):
    """Iterable of batches with a length, which Lightning accepts in place of a DataLoader.

    Lightning sets the epoch through ``sampler.set_epoch`` and saves ``state_dict`` in checkpoints, so a run resumed in
    the middle of an epoch continues with the remaining samples.

    Args:
        order: samples of each batch.
        pin_memory: put batches into page-locked memory, for asynchronous copies to a GPU.
    """

    batch_sampler = None  # Lightning reads this attribute of every loader that has ``sampler``

    def __init__(self, order: BatchOrder, pin_memory: bool = False) -> None:
        self.order, self.pin_memory = order, pin_memory
        self._delivered, self._resume = 0, (0, 0)

    @property
    def sampler(self) -> BatchOrder:
        """The order; Lightning calls ``sampler.set_epoch``."""
        return self.order

    def set_epoch(self, epoch: int) -> None:
        """Select the epoch of the following batches."""
        self.order.set_epoch(epoch)

    def __len__(self) -> int:
        return len(self.order)

    def __iter__(self) -> Iterator[Batch]:
        # A generator, so that nothing is drawn before the first batch: Lightning creates the iterator of the first
        # epoch before it sets the epoch.
        epoch, start = self._resume
        start = start if epoch == self.order.epoch and start < len(self) else 0
        self._delivered, self._resume = start, (0, 0)
        for rows in self.order.batches(start):
            self._delivered += 1
            yield self.take(rows)

    @abstractmethod
    def take(self, rows: RowSelection) -> Batch:
        """Return a batch of the given rows in new, writable tensors."""

    @abstractmethod
    def resident(self, uploads: Uploads) -> Columns[Batch]:
        """Return the columns of the split on a device."""

    def take_resident(self, columns: Columns[Batch], rows: RowSelection) -> Batch:
        """Return a batch of the given rows of ``columns``, equal to that of ``take``."""
        return columns.take(rows_on(columns.device, rows))

    def refresh(self, columns: Columns[Batch]) -> None:
        """Bring the columns of ``resident`` to the current epoch, in place; default: nothing depends on the epoch."""

    def fix_shapes(self) -> None:
        """Make all shapes of a batch but its number of samples equal in all batches; default: they are equal."""

    def state_dict(self) -> dict[str, int]:
        """Return the epoch and the number of its batches already delivered."""
        return {"epoch": self.order.epoch, "batch": self._delivered}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Continue after the batches of ``state``; a state at the end of an epoch starts the next epoch."""
        self._resume = (int(state["epoch"]), int(state["batch"]))

    def _tensor(self, fresh: AnyArray) -> Tensor:
        return torch.from_numpy(fresh).pin_memory() if self.pin_memory else torch.from_numpy(fresh)


class BatchLoader(OrderedLoader[ImpressionBatch]):
    """Loader of impression batches.

    Args:
        columns: columns of the split.
        order: samples of each batch.
        pin_memory: put batches into page-locked memory, for asynchronous copies to a GPU.
    """

    def __init__(self, columns: ImpressionColumns, order: BatchOrder, pin_memory: bool = False) -> None:
        super().__init__(order, pin_memory)
        self.columns = columns

    def take(self, rows: RowSelection) -> ImpressionBatch:
        """Return a batch of the given rows in new, writable tensors."""
        ids_BF, labels_BT = self._copy(self.columns.ids, rows), self._copy(self.columns.labels, rows)
        return ImpressionBatch(
            ids_BF=ids_BF,
            labels_BT=labels_BT,
            dense_BN=self._copy_optional(self.columns.dense, rows),
            scenario_B=self._copy_optional(self.columns.scenario, rows),
            group_B=self._copy_optional(self.columns.group, rows),
        )

    def resident(self, uploads: Uploads) -> ImpressionBatch:
        """Return the whole split as one batch on a device."""
        of, optional = self.columns, uploads.optional
        return ImpressionBatch(
            uploads(of.ids), uploads(of.labels), optional(of.dense), optional(of.scenario), optional(of.group)
        )

    def _copy_optional(self, column: AnyArray | None, rows: RowSelection) -> Tensor | None:
        return None if column is None else self._copy(column, rows)

    def _copy(self, column: AnyArray, rows: RowSelection) -> Tensor:
        if isinstance(rows, slice):
            fresh = np.array(column[rows])
        else:  # "clip" skips the bounds check; all indices are in range
            fresh = np.take(column, rows, axis=0, mode="clip")
        return self._tensor(fresh)

"""Batches gathered from memory-mapped columns, shared among ranks without padding, resumable.

A batch is one gather (training) or one slice (evaluation) of each column; no row is ever touched on its own. Who gets
which rows is decided by an *order*, a small object without data that a test can read:

* ``ShuffledOrder`` (training): all ranks draw the same permutation from (seed, epoch). Each step takes the next
  ``batch_size * world`` rows and each rank its own ``batch_size`` of them, so in a step two ranks at batch size b see
  the rows that one process sees at batch size 2b. The short last step is shared equally; at most ``world - 1`` rows of
  an epoch (other ones each epoch) are left out, and none in a single process.
* ``SequentialOrder`` (evaluation): batches are cut as for one process, then dealt to the ranks in turn. Every row is
  evaluated exactly once, and in the same company on any number of ranks.

Legend: B rows in the batch, F fields, N numerical fields, T tasks.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import Generic, Protocol, TypeVar

import numpy as np
import torch
from torch import Tensor, distributed

from stemlab.array_types import AnyArray
from stemlab.data.batch import ImpressionBatch
from stemlab.errors import StemlabError

Batch = TypeVar("Batch")
RowSelection = slice | AnyArray
"""Which rows a batch takes: a slice of neighbours, or row numbers."""

MIN_EVAL_BATCHES = 16
"""Small splits are evaluated in smaller batches than configured, so that up to 16 ranks all have at least one."""


class ImpressionColumns(Protocol):
    """What a loader reads: equally long arrays (``stemlab.data.store.ColumnStore``, or plain arrays)."""

    @property
    def ids(self) -> AnyArray:
        """(rows, F) int32."""

    @property
    def labels(self) -> AnyArray:
        """(rows, T) int8."""

    @property
    def group(self) -> AnyArray | None:
        """(rows,) int64 true group keys, or ``None``."""

    @property
    def dense(self) -> AnyArray | None:
        """(rows, N) float32, or ``None``."""

    @property
    def scenario(self) -> AnyArray | None:
        """(rows,) int32, or ``None``."""

    def __len__(self) -> int: ...


class BatchOrder(Protocol):
    """Which rows make up this rank's batches of an epoch."""

    epoch: int

    def __len__(self) -> int: ...

    def batches(self, start: int = 0) -> Iterator[RowSelection]:
        """Yield the rows of batch ``start``, ``start + 1``, ..."""

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch whose rows come next."""


def current_rank() -> tuple[int, int]:
    """Return (rank, world size) of this process: (0, 1) unless ``torch.distributed`` is running."""
    if distributed.is_available() and distributed.is_initialized():
        return distributed.get_rank(), distributed.get_world_size()
    return 0, 1


class ShuffledOrder:
    """A new permutation of all rows each epoch, shared by all ranks.

    Args:
        rows: rows in the split.
        batch_size: rows a batch on one rank.
        seed: with the epoch number it fixes the permutation.
        rank: this process.
        world: number of processes; each gets the same number of batches of the same sizes.

    Raises:
        StemlabError: when there are fewer rows than processes.
    """

    def __init__(self, rows: int, batch_size: int, seed: int, rank: int = 0, world: int = 1) -> None:
        if rows < world:
            raise StemlabError(
                f"{rows} training rows cannot be shared by {world} processes: use fewer trainer.devices or more rows."
            )
        self.rows, self.batch_size, self.seed, self.rank, self.world = rows, batch_size, seed, rank, world
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Choose the permutation of ``epoch``."""
        self.epoch = epoch

    def __len__(self) -> int:
        return -(-(self.rows // self.world) // self.batch_size)

    def permutation(self) -> AnyArray:
        """Return this epoch's permutation of all rows (int32 where it fits: a full-size log has 10^8 rows)."""
        dtype = np.int32 if self.rows <= np.iinfo(np.int32).max else np.int64
        return np.random.default_rng([self.seed, self.epoch]).permutation(np.arange(self.rows, dtype=dtype))

    def batches(self, start: int = 0) -> Iterator[RowSelection]:
        """Yield the row numbers of this rank's batches from number ``start`` on."""
        order, share = self.permutation(), self.rows // self.world
        for step in range(start, len(self)):
            begin = step * self.batch_size
            size = min(self.batch_size, share - begin)
            first = begin * self.world + self.rank * size
            yield order[first : first + size]


class SequentialOrder:
    """Neighbouring rows in batches; batch i belongs to rank ``i % world``.

    Args:
        rows: rows in the split.
        batch_size: most rows a batch; fewer where the split is small (``MIN_EVAL_BATCHES``), whatever the world size.
        rank: this process.
        world: number of processes.

    Raises:
        StemlabError: when some process would have nothing to evaluate.
    """

    epoch = 0

    def __init__(self, rows: int, batch_size: int, rank: int = 0, world: int = 1) -> None:
        self.rows, self.rank, self.world = rows, rank, world
        self.batch_size = min(batch_size, max(1, rows // MIN_EVAL_BATCHES))
        self.total = -(-rows // self.batch_size)
        if self.total < world:
            raise StemlabError(
                f"{rows} rows make {self.total} evaluation batches of {self.batch_size}, too few for {world} "
                "processes: lower dataset.eval_batch_size or use fewer trainer.devices."
            )

    def set_epoch(self, epoch: int) -> None:
        """Do nothing: every epoch is the same."""

    def __len__(self) -> int:
        return len(range(self.rank, self.total, self.world))

    def batches(self, start: int = 0) -> Iterator[RowSelection]:
        """Yield slices of neighbouring rows."""
        for batch in range(self.rank + start * self.world, self.total, self.world):
            yield slice(batch * self.batch_size, min((batch + 1) * self.batch_size, self.rows))


class OrderedLoader(Generic[Batch], ABC):
    """An iterable of batches with a length, as Lightning takes it in place of a DataLoader.

    Lightning tells it the epoch through ``sampler.set_epoch`` and keeps ``state_dict`` in checkpoints, so that a run
    resumed in the middle of an epoch goes on with the rows it has not seen.

    Args:
        order: which rows make up the batches.
        pin_memory: put batches into page-locked memory, for copies to a GPU that overlap with computing.
    """

    batch_sampler = None  # Lightning asks for it wherever there is a ``sampler``

    def __init__(self, order: BatchOrder, pin_memory: bool = False) -> None:
        self.order, self.pin_memory = order, pin_memory
        self._delivered, self._resume = 0, (0, 0)

    @property
    def sampler(self) -> BatchOrder:
        """The order, under the name by which Lightning looks for ``set_epoch``."""
        return self.order

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch whose rows come next."""
        self.order.set_epoch(epoch)

    def __len__(self) -> int:
        return len(self.order)

    def __iter__(self) -> Iterator[Batch]:
        # A generator: nothing is drawn before the first batch is asked for, since Lightning creates the iterator of the
        # first epoch before it sets the epoch.
        epoch, start = self._resume
        start = start if epoch == self.order.epoch and start < len(self) else 0
        self._delivered, self._resume = start, (0, 0)
        for rows in self.order.batches(start):
            self._delivered += 1
            yield self.take(rows)

    @abstractmethod
    def take(self, rows: RowSelection) -> Batch:
        """Return a batch of the given rows in fresh, writable tensors."""

    def state_dict(self) -> dict[str, int]:
        """Return the epoch and how many of its batches were handed out."""
        return {"epoch": self.order.epoch, "batch": self._delivered}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Go on behind the batches of ``state``; a state at the end of its epoch starts an epoch afresh."""
        self._resume = (int(state["epoch"]), int(state["batch"]))

    def _tensor(self, fresh: AnyArray) -> Tensor:
        return torch.from_numpy(fresh).pin_memory() if self.pin_memory else torch.from_numpy(fresh)


class BatchLoader(OrderedLoader[ImpressionBatch]):
    """Batches of impressions.

    Args:
        columns: what to read.
        order: which rows make up the batches.
        pin_memory: put batches into page-locked memory, for copies to a GPU that overlap with computing.
    """

    def __init__(self, columns: ImpressionColumns, order: BatchOrder, pin_memory: bool = False) -> None:
        super().__init__(order, pin_memory)
        self.columns = columns

    def take(self, rows: RowSelection) -> ImpressionBatch:
        """Return a batch of the given rows in fresh, writable tensors."""
        ids_BF, labels_BT = self._copy(self.columns.ids, rows), self._copy(self.columns.labels, rows)
        return ImpressionBatch(
            ids_BF=ids_BF,
            labels_BT=labels_BT,
            dense_BN=self._copy_of(self.columns.dense, rows),
            scenario_B=self._copy_of(self.columns.scenario, rows),
            group_B=self._copy_of(self.columns.group, rows),
        )

    def _copy_of(self, column: AnyArray | None, rows: RowSelection) -> Tensor | None:
        return None if column is None else self._copy(column, rows)

    def _copy(self, column: AnyArray, rows: RowSelection) -> Tensor:
        if isinstance(rows, slice):
            fresh = np.array(column[rows])
        else:  # "clip" spares the default's look at every index; all are in range
            fresh = np.take(column, rows, axis=0, mode="clip")
        return self._tensor(fresh)

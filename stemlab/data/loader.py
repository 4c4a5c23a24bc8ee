"""Loaders that gather batches from memory-mapped columns, distribute them over ranks, and can be resumed.

A batch is one gather (training) or one slice (evaluation) of each column; there is no per-sample access. Which samples
each rank reads is decided by a batch order (``stemlab.data.batch_order``), a small object without data.

Legend: B samples in the batch, F fields, N numerical fields, T tasks, R samples of the split.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from typing import Generic, Protocol, TypeVar

import numpy as np
import torch
from torch import Tensor

from stemlab.array_types import AnyArray
from stemlab.data.batch import ImpressionBatch, TensorBatch
from stemlab.data.batch_order import BatchOrder, check_same_order, order_state
from stemlab.data.resident import Columns, RowSelection, Uploads, rows_on
from stemlab.data.target_columns import batch_columns

Batch = TypeVar("Batch", bound=TensorBatch)


class ImpressionColumns(Protocol):
    """Columns that a loader reads (``stemlab.data.store.ColumnStore``, or arrays of equal length).

    ``targets``, a mapping of the columns of ``stemlab.data.target_columns``, is optional.
    """

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

    def draw_ahead(self) -> None:
        """Draw in a thread what the next epoch needs."""
        self.order.draw_ahead()

    def state_dict(self) -> dict[str, int]:
        """Return the epoch, the number of its batches already delivered, and the rows of a window if there are."""
        return {"epoch": self.order.epoch, "batch": self._delivered, **order_state(self.order)}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Continue after the batches of ``state``; a state at the end of an epoch starts the next epoch.

        Raises:
            StemlabError: the state is within an epoch of another order.
        """
        check_same_order(self.order, state)
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
        if not isinstance(rows, slice):
            rows = rows.astype(np.intp, copy=False)  # once, not for each column
        ids_BF, labels_BT = self._copy(self.columns.ids, rows), self._copy(self.columns.labels, rows)
        return ImpressionBatch(
            ids_BF=ids_BF,
            labels_BT=labels_BT,
            dense_BN=self._copy_optional(self.columns.dense, rows),
            scenario_B=self._copy_optional(self.columns.scenario, rows),
            group_B=self._copy_optional(self.columns.group, rows),
            **{name: self._copy(column, rows) for name, column in self._targets().items()},
        )

    def resident(self, uploads: Uploads) -> ImpressionBatch:
        """Return the whole split as one batch on a device."""
        of, optional = self.columns, uploads.optional
        columns = uploads(of.ids), uploads(of.labels), optional(of.dense), optional(of.scenario), optional(of.group)
        return ImpressionBatch(*columns, **{name: uploads(column) for name, column in self._targets().items()})

    def _targets(self) -> dict[str, AnyArray]:
        targets: Mapping[str, AnyArray] = getattr(self.columns, "targets", {})
        return batch_columns(targets) if targets else {}

    def _copy_optional(self, column: AnyArray | None, rows: RowSelection) -> Tensor | None:
        return None if column is None else self._copy(column, rows)

    def _copy(self, column: AnyArray, rows: RowSelection) -> Tensor:
        if isinstance(rows, slice):
            fresh = np.array(column[rows])
        else:  # "clip" skips the bounds check; all indices are in range
            fresh = column.take(rows, axis=0, mode="clip")
        return self._tensor(fresh)

"""Columns of a split on the device that trains.

Legend: B samples in the batch, R rows of the columns.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, Protocol, TypeVar

import numpy as np
import torch
from torch import Tensor

from stemlab.array_types import AnyArray

Residence = Literal["auto", "device", "host"]
"""Where the columns of the training are: on the GPU, in main memory, or on the GPU if they fit (``auto``)."""
FixedResidence = Literal["device", "host"]

RowSelection = slice | AnyArray
"""Samples of a batch: a slice of consecutive rows, or row numbers."""

DEVICE_SHARE = 0.4
"""``auto`` copies the columns to the GPU if they need at most this share of its free memory."""
_STAGING_BYTES = 1 << 26
_Batch_co = TypeVar("_Batch_co", covariant=True)


class Columns(Protocol[_Batch_co]):
    """Columns of samples on a device, from which batches are gathered without the CPU."""

    @property
    def device(self) -> torch.device:
        """Device of all tensors."""
        ...

    def take(self, rows_B: Tensor) -> _Batch_co:
        """Return the samples with the given row numbers, (B,) int64 on the device of the columns."""
        ...


def row_numbers(rows: RowSelection) -> AnyArray:
    """Return the row numbers of a batch."""
    return np.arange(rows.start, rows.stop) if isinstance(rows, slice) else rows


def rows_on(device: torch.device, rows: RowSelection) -> Tensor:
    """Return the row numbers of a batch on a device, (B,) int64."""
    if isinstance(rows, slice):
        return torch.arange(rows.start, rows.stop, device=device)
    row_B = torch.from_numpy(rows)
    if device.type == "cuda":  # page-locked: the copy does not wait for the device
        row_B = row_B.pin_memory().to(device, non_blocking=True)
    return row_B.long()


class Uploads:
    """Copies of columns on a device; a column is copied once.

    Args:
        device: the device.
    """

    def __init__(self, device: torch.device | str) -> None:
        self.device = torch.device(device)
        self._copies: dict[int, tuple[AnyArray, Tensor]] = {}  # keeping the column keeps its id unique

    def __call__(self, column: AnyArray) -> Tensor:
        """Return the copy of a column."""
        if id(column) not in self._copies:
            self._copies[id(column)] = column, upload(column, self.device)
        return self._copies[id(column)][1]

    def optional(self, column: AnyArray | None) -> Tensor | None:
        """Return the copy of a column, if there is one."""
        return None if column is None else self(column)


def upload(column: AnyArray, device: torch.device) -> Tensor:
    """Return a copy of a column on a device; a memory-mapped column is read in pieces of 64 MiB."""
    if device.type == "cpu":
        return torch.from_numpy(np.array(column))
    empty = torch.from_numpy(np.empty((0, *column.shape[1:]), dtype=column.dtype))
    result = empty.new_empty(column.shape, device=device)
    step = max(1, _STAGING_BYTES // max(1, column[:1].nbytes))
    staging = empty.new_empty((min(step, len(column)), *column.shape[1:]), pin_memory=True)
    for first in range(0, len(column), step):
        piece = column[first : first + step]
        staging.numpy()[: len(piece)] = piece
        result[first : first + len(piece)].copy_(staging[: len(piece)])
    return result


def choose_residence(wanted: Residence, column_bytes: Callable[[], int], device: torch.device) -> FixedResidence:
    """Return where the columns of a training are; ``device`` on the CPU, which has one memory.

    Args:
        wanted: the setting.
        column_bytes: returns the size of all columns.
        device: the device that trains.
    """
    if wanted != "auto":
        return wanted
    if device.type != "cuda":
        return "device"
    free, _ = torch.cuda.mem_get_info(device)
    return "device" if column_bytes() <= DEVICE_SHARE * free else "host"

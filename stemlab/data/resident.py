"""Columns of a split on the device that trains.

Legend: B samples in the batch, R rows of the columns.
"""

from __future__ import annotations

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

    def take(self, rows_B: Tensor) -> _Batch_co:
        """Return the samples with the given row numbers, (B,) int64 on the device of the columns."""
        ...


def row_numbers(rows: RowSelection) -> AnyArray:
    """Return the row numbers of a batch."""
    return np.arange(rows.start, rows.stop) if isinstance(rows, slice) else rows


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


def fits_on_device(column_bytes: int, device: torch.device) -> bool:
    """Return whether columns need at most ``DEVICE_SHARE`` of the free memory of a GPU."""
    free, _ = torch.cuda.mem_get_info(device)
    return column_bytes <= DEVICE_SHARE * free


def choose_residence(wanted: Residence, column_bytes: int, device: torch.device) -> FixedResidence:
    """Return where the columns of a training are; ``device`` on the CPU, which has one memory."""
    if wanted != "auto":
        return wanted
    return "device" if device.type != "cuda" or fits_on_device(column_bytes, device) else "host"

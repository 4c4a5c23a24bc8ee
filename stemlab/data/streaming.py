"""Batches of many rows that a thread gathers while a GPU works on the batch before.

The thread gathers rows and fills page-locked buffers; every CUDA call is made by the thread that consumes the batches,
so that it may capture CUDA graphs between two of them.

Legend: R rows of the largest batch.
"""

from __future__ import annotations

import queue
from collections.abc import Callable, Iterator
from contextlib import closing
from typing import Any, Generic

import numpy as np
import torch
from torch import Tensor

from stemlab.array_types import AnyArray
from stemlab.data.io.prefetch import prefetch
from stemlab.data.loader import Batch

SLOTS = 3
"""Buffers: of the batch in use, of the one being copied, and of the one being gathered."""


class BlockStream(Generic[Batch]):
    """Reusable buffers in page-locked memory and on a GPU. On the CPU, batches are new tensors.

    Args:
        take: returns a batch of given rows in main memory; called in the thread.
        device: device of the batches.
        capacity: R.
    """

    def __init__(self, take: Callable[[AnyArray], Batch], device: torch.device, capacity: int) -> None:
        self._take, self._slots = take, list[_Slot[Batch]]()
        if device.type == "cuda":
            one_row = take(np.zeros(1, dtype=np.int64))
            self._device, self._side = device, torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
            self._slots = [_Slot(one_row, capacity, device) for _ in range(SLOTS)]
            self._side.wait_stream(torch.cuda.current_stream(device))  # the new memory may still be in use there

    def batches(self, rows: Iterator[AnyArray]) -> Iterator[Batch]:
        """Yield the batch of each array of row numbers; it is valid until the next one is requested."""
        if not self._slots:
            yield from prefetch(map(self._take, rows), depth=1)
            return
        free: queue.SimpleQueue[_Slot[Batch] | None] = queue.SimpleQueue()
        for slot in self._slots:
            free.put(slot)
        with closing(prefetch(self._filled(rows, free), depth=1)) as filled:  # type: ignore[type-var]
            try:
                coming = self._start_copy(filled)
                while coming is not None:
                    slot, length = coming
                    torch.cuda.current_stream(self._device).wait_event(slot.copied)
                    coming = self._start_copy(filled)
                    try:
                        yield slot.on_device.map(lambda tensor, n=length: tensor[:n])  # type: ignore[misc]
                    finally:
                        slot.used.record(torch.cuda.current_stream(self._device))
                    slot.copied.synchronize()  # long done; the thread may then overwrite the page-locked buffer
                    free.put(slot)
            finally:
                free.put(None)  # ends the thread if it waits for a buffer

    def _filled(
        self, rows: Iterator[AnyArray], free: queue.SimpleQueue[_Slot[Batch] | None]
    ) -> Iterator[tuple[_Slot[Batch], int]]:
        """Yield slots whose page-locked buffer is filled, and the number of their rows. Runs in the thread."""
        for batch in map(self._take, rows):
            slot = free.get()
            if slot is None:
                return
            sources, targets = batch.tensors(), slot.page_locked.tensors()
            for name, source in sources.items():
                targets[name].numpy()[: len(source)] = source.numpy()
            yield slot, len(batch)

    def _start_copy(self, filled: Iterator[tuple[_Slot[Batch], int]]) -> tuple[_Slot[Batch], int] | None:
        """Copy the next filled slot to the GPU, after the last work that reads its buffer there."""
        following = next(filled, None)
        if following is not None:
            slot, length = following
            with torch.cuda.stream(self._side):
                self._side.wait_event(slot.used)
                sources, targets = slot.page_locked.tensors(), slot.on_device.tensors()
                for name, source in sources.items():
                    targets[name][:length].copy_(source[:length], non_blocking=True)
                slot.copied.record(self._side)
        return following


class _Slot(Generic[Batch]):
    """Buffers of one batch.

    Attributes:
        page_locked: R rows in main memory.
        on_device: R rows on the GPU.
        copied: event at the end of the copy to the GPU.
        used: event after the last work that reads ``on_device``.
    """

    def __init__(self, one_row: Batch, capacity: int, device: torch.device) -> None:
        def empty(like: Tensor, **where: Any) -> Tensor:
            return torch.empty((capacity, *like.shape[1:]), dtype=like.dtype, **where)

        self.page_locked = one_row.map(lambda tensor: empty(tensor, pin_memory=True))
        self.on_device = one_row.map(lambda tensor: empty(tensor, device=device))
        self.copied: torch.cuda.Event = torch.cuda.Event()  # type: ignore[no-untyped-call]
        self.used: torch.cuda.Event = torch.cuda.Event()  # type: ignore[no-untyped-call]

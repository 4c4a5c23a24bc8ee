"""Blocks of training steps: several batches that are handed over at once, for steps that run as CUDA graphs.

A block holds columns on the device and the row numbers of its steps. The samples of every step are those that the
wrapped loader gives in the same step, for every block size and after every resume.

Legend: S steps of the block, B samples per step, R rows of the columns.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice, pairwise
from typing import Generic, cast

import numpy as np
import torch
from torch import Tensor

from stemlab.array_types import AnyArray
from stemlab.data.batch_order import BatchOrder, check_same_order, order_state
from stemlab.data.loader import Batch, OrderedLoader
from stemlab.data.resident import Columns, FixedResidence, Uploads, row_numbers, upload
from stemlab.data.streaming import BlockStream


@dataclass(frozen=True, slots=True)
class StepBlock(Generic[Batch]):
    """Samples of consecutive training steps of equal batch size.

    Attributes:
        columns: columns of the whole split, at the same addresses in every block (residence ``device``), or of this
            block only, which the next two blocks overwrite (residence ``host``).
        rows_SB: (S, B) int64 rows of ``columns`` per step, on the same device.
        first_step: number of the first step in the epoch, from 0.
    """

    columns: Columns[Batch]
    rows_SB: Tensor
    first_step: int = 0

    @property
    def steps(self) -> int:
        """S."""
        return int(self.rows_SB.shape[0])

    def __len__(self) -> int:
        return self.rows_SB.numel()

    def batch(self, step: int) -> Batch:
        """Return the batch of a step, 0 to S - 1."""
        return self.columns.take(self.rows_SB[step])


class BlockLoader(Generic[Batch]):
    """Loader of the blocks of an epoch, in place of the loader of its batches.

    Blocks end at multiples of ``steps_per_block``; a last step of another batch size is a block of its own. State
    dictionaries are in steps and equal to those of the wrapped loader, so a checkpoint can be resumed with or without
    blocks and with another block size.

    Args:
        loader: the loader of the training batches.
        steps_per_block: maximum number of steps of a block.
        device: device of the blocks.
        residence: ``device``: the columns of the split are copied to the device once; ``host``: the rows of the next
            block are gathered in a thread and copied while the current block is used.
        limit: maximum number of steps per epoch; ``None``: all.
        uploads: columns that are already on the device.
    """

    batch_sampler = None  # Lightning reads this attribute of every loader that has ``sampler``

    def __init__(
        self,
        loader: OrderedLoader[Batch],
        steps_per_block: int,
        device: torch.device | str = "cpu",
        residence: FixedResidence = "device",
        limit: int | None = None,
        uploads: Uploads | None = None,
    ) -> None:
        self.loader, self.steps_per_block = loader, steps_per_block
        self.device, self.residence = torch.device(device), residence
        self.steps = len(loader) if limit is None else min(limit, len(loader))
        loader.fix_shapes()
        loader.pin_memory = False  # BlockStream copies from its own page-locked buffers
        self._uploads = uploads or Uploads(self.device)
        self._columns: Columns[Batch] | None = None
        self._stream: BlockStream[Batch] | None = None
        self._delivered, self._resume = 0, (0, 0)

    @property
    def sampler(self) -> BatchOrder:
        """The order; Lightning calls ``sampler.set_epoch``."""
        return self.loader.order

    def set_epoch(self, epoch: int) -> None:
        """Select the epoch of the following blocks."""
        self.loader.set_epoch(epoch)

    def __len__(self) -> int:
        """Return the number of blocks of a whole epoch."""
        return len(self._bounds(0))

    def _bounds(self, start: int) -> list[tuple[int, int]]:
        """Return the first step and the step after the last one of the blocks from step ``start`` on."""
        order, last = self.loader.order, self.steps
        if self.steps == len(order) and order.batch_length(self.steps - 1) != order.batch_length(0):
            last -= 1  # a batch size of its own
        edges = [*range(start - start % self.steps_per_block, last, self.steps_per_block), last, self.steps]
        return [(max(a, start), b) for a, b in pairwise(edges) if max(a, start) < b]

    def __iter__(self) -> Iterator[StepBlock[Batch]]:
        # A generator: Lightning creates the iterator of the first epoch before it sets the epoch.
        epoch, start = self._resume
        start = start if epoch == self.loader.order.epoch and start < self.steps else 0
        self._delivered, self._resume = start, (0, 0)
        blocks = self._resident_blocks(start) if self.residence == "device" else self._streamed_blocks(start)
        for block in blocks:
            self._delivered = block.first_step + block.steps
            if block.first_step == start and self.device.type == "cuda":
                self.loader.draw_ahead()
            yield block

    def _resident_blocks(self, start: int) -> Iterator[StepBlock[Batch]]:
        if self._columns is None:
            self._columns = self.loader.resident(self._uploads)
        self.loader.refresh(self._columns)
        order = self.loader.order
        steps = islice(order.batches(start), self.steps - start)
        row_E, done = upload(np.concatenate([row_numbers(rows) for rows in steps]), self.device), 0
        for first, stop in self._bounds(start):
            size = order.batch_length(first)
            count = (stop - first) * size
            yield StepBlock(self._columns, row_E[done : done + count].long().view(-1, size), first)
            done += count

    def _streamed_blocks(self, start: int) -> Iterator[StepBlock[Batch]]:
        order, bounds = self.loader.order, self._bounds(start)
        if self._stream is None:
            rows = max((stop - first) * order.batch_length(first) for first, stop in self._bounds(0))
            self._stream = BlockStream(self.loader.take, self.device, rows)
            self._counting_R = torch.arange(rows, device=self.device)
        for (first, _), columns in zip(bounds, self._stream.batches(self._rows_of(bounds)), strict=True):
            rows_SB = self._counting_R[: len(columns)].view(-1, order.batch_length(first))
            yield StepBlock(cast(Columns[Batch], columns), rows_SB, first)

    def _rows_of(self, bounds: list[tuple[int, int]]) -> Iterator[AnyArray]:
        """Yield the row numbers of each block."""
        steps = self.loader.order.batches(bounds[0][0])
        for first, stop in bounds:
            yield np.concatenate([row_numbers(rows) for rows in islice(steps, stop - first)])

    @property
    def resumed_blocks(self) -> int:
        """Number of blocks before the step at which a loaded state continues."""
        return len(self) - len(self._bounds(self._resume[1]))

    def state_dict(self) -> dict[str, int]:
        """Return the epoch, the number of its steps already delivered, and the rows of a window if there are."""
        return {"epoch": self.loader.order.epoch, "batch": self._delivered, **order_state(self.loader.order)}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Continue after the steps of ``state``; a state at the end of an epoch starts the next epoch.

        Raises:
            StemlabError: the state is within an epoch of another order.
        """
        check_same_order(self.loader.order, state)
        self._resume = (int(state["epoch"]), int(state["batch"]))

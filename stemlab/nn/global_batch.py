"""The global batch of a training step: the samples of all processes, those of process 0 first.

Layers that depend on more than one sample (batch normalisation, dropout masks, random numbers, MetaHeac's split) have
an attribute ``batch_share``. It is ``None`` in a single process. With several, ``set_batch_share`` sets it, and in
training mode the layer computes the result that one process would compute from the global batch.

Legend: R samples of this process, G samples of all processes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, distributed


@dataclass(frozen=True, slots=True)
class BatchShare:
    """The part of the global batch that this process has: consecutive samples, as many as every other process.

    Attributes:
        rank: global rank of this process.
        processes: world size.
    """

    rank: int
    processes: int

    @classmethod
    def current(cls) -> BatchShare:
        """Return the share of this process in the default process group."""
        return cls(distributed.get_rank(), distributed.get_world_size())

    def rows(self, count: int) -> slice:
        """Return the position of this process's rows in the global batch if every process has ``count`` rows."""
        return slice(self.rank * count, (self.rank + 1) * count)


class _AllReduceSum(torch.autograd.Function):
    """Sum over processes; the gradient is the sum of the gradients of all processes. Twice differentiable."""

    @staticmethod
    def forward(ctx: Any, value: Tensor) -> Tensor:
        total = value.clone(memory_format=torch.contiguous_format)
        distributed.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        return all_reduce_sum(gradient)


def all_reduce_sum(value: Tensor) -> Tensor:
    """Return the sum of a tensor over all processes; differentiable.

    DDP averages the gradients of the processes. If each process has the mean loss of its samples (or the loss of the
    global batch), the averaged gradient is that of the mean loss of the global batch.
    """
    total: Tensor = _AllReduceSum.apply(value)  # type: ignore[no-untyped-call]
    return total


def global_mean(value: Tensor, share: BatchShare | None) -> Tensor:
    """Return the mean over all processes of a mean over equally many samples; differentiable."""
    return value if share is None else all_reduce_sum(value) / share.processes


def row_range(count: int, share: BatchShare, device: torch.device) -> tuple[int, int]:
    """Return the first global row of this process and the number of rows of all, for any number per process.

    One exchange between the processes; synchronises a GPU.
    """
    count_W = torch.zeros(share.processes, dtype=torch.int64, device=device)
    count_W[share.rank] = count
    distributed.all_reduce(count_W)
    counts: list[int] = count_W.tolist()
    return sum(counts[: share.rank]), sum(counts)


def rows_of_all_processes(local_RX: Tensor, first: int, total: int) -> Tensor:
    """Return the rows (G, ...) of all processes on each process; differentiable.

    Args:
        local_RX: rows of this process; R may be 0 and differ between processes.
        first: position of the first local row among the rows of all processes.
        total: G.
    """
    before, after = (local_RX.new_zeros(n, *local_RX.shape[1:]) for n in (first, total - first - len(local_RX)))
    return all_reduce_sum(torch.cat([before, local_RX, after]))

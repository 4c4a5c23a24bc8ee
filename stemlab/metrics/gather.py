"""Gather tensors of different lengths from all ranks on rank 0, with any backend.

Lightning and torchmetrics average per-rank values (the mean of per-rank AUCs is not the AUC) or gather all states on
every rank. Here only rank 0 receives the samples, computes the metrics and broadcasts the result
(docs/methods/metrics.md#distributed-evaluation).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import torch
from torch import Tensor, distributed

from stemlab.errors import StemlabError

_T = TypeVar("_T")


def is_distributed() -> bool:
    """Return whether a process group with more than one process is initialised."""
    return distributed.is_available() and distributed.is_initialized() and distributed.get_world_size() > 1


def transport_device() -> torch.device:
    """Return the device of tensors for collectives: the current GPU for NCCL, else the CPU."""
    return (
        torch.device("cuda", torch.cuda.current_device())
        if "nccl" in str(distributed.get_backend())
        else torch.device("cpu")
    )


def gather_rows(column: Tensor) -> Tensor:
    """Return the rows of all ranks, in rank order, on rank 0; on other ranks, their own rows. Collective.

    Args:
        column: (rows, ...) tensor; ranks may have different numbers of rows, but equal other dimensions.

    Returns:
        A tensor on the device of ``column``.
    """
    if not is_distributed():
        return column
    device, rank, world = transport_device(), distributed.get_rank(), distributed.get_world_size()
    own_rows = torch.tensor([len(column)], device=device)
    rows_of_rank = [torch.zeros_like(own_rows) for _ in range(world)]
    distributed.all_gather(rows_of_rank, own_rows)
    rows = [int(r) for r in rows_of_rank]
    if max(rows) == 0:
        return column
    padded = column.new_zeros((max(rows), *column.shape[1:]), device=device)
    padded[: len(column)] = column.to(device)
    received = [torch.empty_like(padded) for _ in range(world)] if rank == 0 else None
    distributed.gather(padded, received, dst=0)
    if received is None:
        return column
    return torch.cat([part[:n].to(column.device) for part, n in zip(received, rows, strict=True)])


def from_rank_zero(value: _T | None) -> _T:
    """Return the value of rank 0 on every rank; other ranks may pass ``None``. Collective."""
    box = [value]
    if is_distributed():
        distributed.broadcast_object_list(box, src=0, device=transport_device())
    result = box[0]
    assert result is not None
    return result


def computed_on_rank_zero(compute: Callable[[], _T]) -> _T:
    """Return what a function returns on rank 0, where it is called, on every rank. Collective.

    Raises:
        Exception: that of rank 0, on every rank, because the others wait for the result; there it has the same type if
            it is a ValueError or StemlabError.
    """
    if not is_distributed():
        return compute()
    outcome: tuple[_T | None, Exception | None] | None = None
    if distributed.get_rank() == 0:
        try:
            outcome = compute(), None
        except Exception as error:
            sent = type(error) if type(error) in (ValueError, StemlabError) else RuntimeError
            from_rank_zero((None, sent(str(error))))
            raise
    value, failure = from_rank_zero(outcome)
    if failure is not None:
        raise failure
    return value  # type: ignore[return-value]

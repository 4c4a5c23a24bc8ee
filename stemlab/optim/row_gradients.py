"""Gradients of the rows of embedding tables that a step looked up: deduplicated, and summed over processes.

Legend: N lookups of a table, U its distinct rows or, on a GPU, N slots for them, D width of a row, T tables.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, distributed, nn

# Undocumented operation of PyTorch, the backward pass of ``functional.embedding``: a segment sum in a fixed order.
_segment_sum: Any = torch.ops.aten.embedding_dense_backward

Lookups = tuple[Tensor, Tensor]
"""Row numbers (N,) and gradients (N, D) of the lookups of one table; row numbers may repeat."""


@dataclass(slots=True)
class RowGradient:
    """The rows of one table that have a gradient, and their gradients.

    Attributes:
        table: the table.
        rows_U: row numbers. On a GPU their number is not known on the CPU: the slots that are left over repeat one
            row with its gradient, so that a write of all slots has the same result in every order.
        grad_UD: gradient of each row.
        first_U1: 1 where a row is listed for the first time, 0 where it is repeated; None if no row is.
    """

    table: nn.Parameter
    rows_U: Tensor
    grad_UD: Tensor
    first_U1: Tensor | None = None

    def counted(self) -> Tensor:
        """Return the gradient with each row counted once, for norms."""
        return self.grad_UD if self.first_U1 is None else self.grad_UD * self.first_U1


def collect_row_gradients(tables: Sequence[nn.Parameter], on_device: bool) -> list[RowGradient]:
    """Return the gradients of the rows of tables, and clear the ``grad`` of the tables.

    With several processes, every process gets the rows of all and the mean of their gradients, as DDP gives it.

    Args:
        tables: parameters with a sparse gradient or none.
        on_device: use shapes that do not depend on values, which a CUDA graph needs.

    Raises:
        TypeError: a table has a dense gradient.
    """
    shared = distributed.is_available() and distributed.is_initialized() and distributed.get_world_size() > 1
    live = list(tables) if shared else [table for table in tables if table.grad is not None]
    lookups = [_take(table) for table in live]
    if shared:
        lookups = _of_all_processes(lookups)
    if on_device:
        return _in_fixed_shapes(live, lookups)
    return [RowGradient(table, *_deduplicated(own)) for table, own in zip(live, lookups, strict=True)]


def _take(table: nn.Parameter) -> Lookups:
    """Return the lookups of a table, and clear its gradient."""
    grad, table.grad = table.grad, None
    if grad is None:
        return torch.zeros(0, dtype=torch.int64, device=table.device), table.new_zeros(0, table.shape[1])
    if not grad.is_sparse:
        raise TypeError(
            f"a table of shape {tuple(table.shape)} that is trained by rows got a dense gradient: read it by id only "
            "(as a module), or use optim.tables=dense_adam."
        )
    return grad._indices()[0], grad._values()


def _deduplicated(lookups: Lookups) -> Lookups:
    """Return the distinct rows, ascending, and the sums of their gradients."""
    rows_N, grad_ND = lookups
    rows_U, index_N = torch.unique(rows_N, return_inverse=True)
    return rows_U, grad_ND.new_zeros(len(rows_U), grad_ND.shape[1]).index_add_(0, index_N, grad_ND)


def _in_fixed_shapes(tables: Sequence[nn.Parameter], lookups: Sequence[Lookups]) -> list[RowGradient]:
    """Return the row gradients in N slots per table; tables with equal shapes of lookups are sorted together."""
    alike: dict[tuple[Any, ...], list[int]] = defaultdict(list)
    for position, (_, grad_ND) in enumerate(lookups):
        if len(grad_ND):
            alike[(*grad_ND.shape, grad_ND.dtype)].append(position)
    found: dict[int, RowGradient] = {}
    for positions in alike.values():
        rows_TN, first_TN, grad_TND = _slots(
            torch.stack([lookups[position][0] for position in positions]),
            torch.stack([lookups[position][1] for position in positions]),
        )
        for position, *slots in zip(positions, rows_TN, grad_TND, first_TN.unsqueeze(2), strict=True):
            found[position] = RowGradient(tables[position], *slots)
    return [found[position] for position in sorted(found)]


def _slots(rows_TN: Tensor, grad_TND: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return the distinct rows (T, N), whether each slot is the first of its row, and the gradient of the slots.

    The number of distinct rows is not read: every step of the computation has N slots per table.
    """
    T, N, D = grad_TND.shape
    sorted_TN, order_TN = rows_TN.sort(dim=1, stable=True)
    begins_TN = torch.cat([torch.zeros_like(sorted_TN[:, :1]), sorted_TN[:, 1:].ne(sorted_TN[:, :-1]).long()], dim=1)
    slot_TN = begins_TN.cumsum(1)  # of each lookup, in the order of the rows
    numbers_TN = torch.arange(N, device=rows_TN.device).expand(T, N).contiguous()
    lookup_TN = torch.searchsorted(slot_TN, numbers_TN).clamp(max=N - 1)  # first of each slot; the last one if unused
    same_TN = slot_TN.gather(1, lookup_TN)  # the slot itself, or the last used one
    tables_T1 = N * torch.arange(T, device=rows_TN.device)[:, None]
    grad_XD = grad_TND.reshape(T * N, D).index_select(0, (order_TN + tables_T1).flatten())
    sum_XD = _segment_sum(grad_XD, (slot_TN + tables_T1).flatten(), T * N, -1, False)
    grad_XD = sum_XD.index_select(0, (same_TN + tables_T1).flatten())
    first_TN = same_TN.eq(numbers_TN).to(grad_XD.dtype)
    return sorted_TN.gather(1, lookup_TN), first_TN, grad_XD.view(T, N, D)


def _of_all_processes(lookups: Sequence[Lookups]) -> list[Lookups]:
    """Return the distinct rows of every process, and their gradients divided by the number of processes.

    Only the rows that were looked up are exchanged, padded to the largest number of a process.
    """
    own = [_deduplicated(lookup) for lookup in lookups]
    device, processes = own[0][0].device, distributed.get_world_size()
    count_T = torch.tensor([len(rows_U) for rows_U, _ in own], device=device)
    counts_PT = _gathered(count_T)
    most = counts_PT.amax(dim=0).tolist()
    rows_PX = _gathered(torch.cat([_padded(rows_U, most[t]) for t, (rows_U, _) in enumerate(own)]))
    grad_PY = _gathered(torch.cat([_padded(grad_UD, most[t]).flatten() for t, (_, grad_UD) in enumerate(own)]))
    counts, found = counts_PT.tolist(), []
    rows_PT = torch.split(rows_PX, most, dim=1)
    widths = [n * grad_UD.shape[1] for n, (_, grad_UD) in zip(most, own, strict=True)]
    grads_PT = torch.split(grad_PY, widths, dim=1)
    for t, (rows_PU, grad_PV) in enumerate(zip(rows_PT, grads_PT, strict=True)):
        grad_PUD = grad_PV.view(processes, most[t], own[t][1].shape[1])
        used = [counts[p][t] for p in range(processes)]
        rows_N = torch.cat([rows_PU[p, :n] for p, n in enumerate(used)])
        found.append((rows_N, torch.cat([grad_PUD[p, :n] for p, n in enumerate(used)]) / processes))
    return found


def _padded(values_U: Tensor, length: int) -> Tensor:
    """Return the values with zeros at the end."""
    return torch.cat([values_U, values_U.new_zeros(length - len(values_U), *values_U.shape[1:])])


def _gathered(own: Tensor) -> Tensor:
    """Return the tensors of all processes, which have equal shapes, along a new first dimension."""
    parts = [torch.empty_like(own) for _ in range(distributed.get_world_size())]
    distributed.all_gather(parts, own.contiguous())
    return torch.stack(parts)

"""Rows of a table, looked up so that the way back is cheap.

Legend: V rows of the table, D width, U distinct rows of a batch, T positions, N rows that make up one position.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional

from stemlab.nn.kernels.dispatch import use_cpu_kernel


def look_up(table_VD: Tensor, *ids: Tensor) -> tuple[Tensor, ...]:
    """Return the rows of a table for every tensor of ids, each (..., D).

    All look-ups of a table in one call make one gradient of the table's size, and on the processor adding up its rows
    takes a third of the time of ``torch.nn.Embedding``'s.
    """
    if use_cpu_kernel(table_VD):
        found: tuple[Tensor, ...] = _Rows.apply(table_VD, *ids)  # type: ignore[no-untyped-call]
        return found
    return tuple(functional.embedding(i, table_VD) for i in ids)


class _Rows(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, table_VD: Tensor, *ids: Tensor) -> tuple[Tensor, ...]:
        ctx.save_for_backward(*ids)
        ctx.rows = len(table_VD)
        return tuple(functional.embedding(i, table_VD) for i in ids)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        grad_VD = gradients[0].new_zeros(ctx.rows, gradients[0].shape[-1])
        for i, gradient in zip(ctx.saved_tensors, gradients, strict=True):
            add_rows(grad_VD, i, gradient)
        return (grad_VD, *(None for _ in gradients))


def add_rows(sum_VD: Tensor, ids: Tensor, term: Tensor) -> Tensor:
    """Add the rows of ``term`` (..., D) to those that ``ids`` (...) name, in place; return the sum."""
    return sum_VD.index_add_(0, ids.flatten(), term.reshape(-1, term.shape[-1]))


@dataclass(frozen=True, slots=True)
class Distinct:
    """Vectors that repeat, each held once: a linear layer then has as many rows to do as there are different ones.

    Attributes:
        row_UD: the different vectors.
        place: which of them stands where, any shape.
    """

    row_UD: Tensor
    place: Tensor

    def vectors(self) -> Tensor:
        """Return every vector in its place (..., D)."""
        return look_up(self.row_UD, self.place)[0]


@dataclass(frozen=True, slots=True)
class Repeats:
    """Ids that repeat, to be looked up in one or more tables.

    Attributes:
        ids: the different ones (U,); where ``place`` is ``None``, all of them in any shape.
        place: which of them stands where.
    """

    ids: Tensor
    place: Tensor | None

    @classmethod
    def of(cls, ids: Tensor, table_VD: Tensor) -> Repeats:
        """Sort out the repeats on the processor; elsewhere it would cost more than it saves."""
        if not use_cpu_kernel(table_VD):
            return cls(ids, None)
        if len(table_VD) > 8 * ids.numel():
            return cls(*ids.unique(return_inverse=True))  # type: ignore[no-untyped-call]
        present_V = torch.zeros(len(table_VD), dtype=torch.bool).index_fill_(0, ids.flatten(), True)
        return cls(present_V.nonzero().squeeze(1), (present_V.cumsum(0) - 1)[ids])

    def put(self, rows: Tensor) -> Tensor | Distinct:
        """Return the vectors of all ids, from those of ``self.ids``."""
        return rows if self.place is None else Distinct(rows, self.place)


def put(row_UD: Tensor, place_TN: Tensor) -> Tensor:
    """Return the sums of the rows in their places (T, D)."""
    T, N = place_TN.shape
    return _bag(row_UD, place_TN.flatten(), torch.arange(0, T * N, N))


def take_back(gradients: Sequence[Tensor], place_TN: Tensor, rows: int) -> list[Tensor]:
    """Return, of gradients of sums of rows (T, D), those of the rows (U, D).

    A row's gradient is itself a sum, over the positions that use it; sorting by row first is twice as fast as adding
    position by position.
    """
    place = place_TN.flatten()
    user = _order(place, rows)
    if place_TN.shape[1] > 1:
        user.div_(place_TN.shape[1], rounding_mode="floor")
    count_U = torch.bincount(place, minlength=rows)
    first_U = count_U.cumsum(0).sub_(count_U)
    return [_bag(gradient, user, first_U) for gradient in gradients]


def _bag(row_UD: Tensor, index: Tensor, first: Tensor) -> Tensor:
    """Return sums of rows, of those that ``index`` names from each place in ``first`` up to the next."""
    total: Tensor = torch.embedding_bag(row_UD, index, first)[0]
    return total


def _order(number: Tensor, limit: int) -> Tensor:
    """Return the order in which numbers below ``limit`` ascend; NumPy counts where they are short, torch compares."""
    if limit > 2**16:
        return number.argsort()
    return torch.from_numpy(np.argsort(number.numpy().astype(np.uint16), kind="stable"))

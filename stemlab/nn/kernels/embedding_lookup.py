"""Embedding lookup with a cheap backward pass: duplicate ids are deduplicated and gradients segment-summed.

The reference is ``torch.nn.functional.embedding`` (docs/methods/kernels.md).

Legend: V rows of the embedding table, D embedding width, U unique embeddings of a batch, T positions, N terms per
position.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional

from stemlab.nn.kernels.dispatch import use_batched, use_cpu_kernel

_Result = TypeVar("_Result")


def look_up(table: nn.Embedding | Tensor, *ids: Tensor) -> tuple[Tensor, ...]:
    """Return the embeddings of every tensor of ids, each (..., D).

    All lookups of one call share one gradient of the table's size; a table with sparse gradients is looked up as a
    module.

    Args:
        table: a table without padding row, or its weight (V, D).
        ids: any shapes.
    """
    if isinstance(table, nn.Embedding) and type(table) is not nn.Embedding:
        return _split_like(table(torch.cat([i.flatten() for i in ids])), ids)
    table_VD = table.weight if isinstance(table, nn.Embedding) else table
    if use_cpu_kernel(table_VD):
        found: tuple[Tensor, ...] = _Lookup.apply(table_VD, *ids)  # type: ignore[no-untyped-call]
        return found
    if use_batched(table_VD) and len(ids) > 1:
        return _split_like(functional.embedding(torch.cat([i.flatten() for i in ids]), table_VD), ids)
    return tuple(functional.embedding(i, table_VD) for i in ids)


def _split_like(rows_TD: Tensor, ids: Sequence[Tensor]) -> tuple[Tensor, ...]:
    """Return the rows of each tensor of ids, in its shape."""
    rows = torch.split(rows_TD, [i.numel() for i in ids])
    return tuple(row.view(*i.shape, -1) for row, i in zip(rows, ids, strict=True))


class _Lookup(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, table_VD: Tensor, *ids: Tensor) -> tuple[Tensor, ...]:
        ctx.save_for_backward(*ids)
        ctx.rows = len(table_VD)
        return tuple(functional.embedding(i, table_VD) for i in ids)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        grad_VD = gradients[0].new_zeros(ctx.rows, gradients[0].shape[-1])
        for ids, gradient in zip(ctx.saved_tensors, gradients, strict=True):
            grad_VD.index_add_(0, ids.flatten(), gradient.reshape(-1, gradient.shape[-1]))
        return (grad_VD, *(None for _ in gradients))


@dataclass(frozen=True, slots=True)
class UniqueEmbeddings:
    """Deduplicated embeddings, so that linear layers run on unique rows only.

    Attributes:
        row_UD: the unique embeddings.
        index: row of every position, any shape.
        id_U: ids of the unique embeddings, ascending, if they come from ``look_up_history``.
        computed: results that depend only on the rows and on weights, by what they depend on; set if further batches
            of an evaluation have the same rows.
    """

    row_UD: Tensor
    index: Tensor
    id_U: Tensor | None = None
    computed: dict[Any, Any] | None = None

    def dense(self) -> Tensor:
        """Return the embedding of every position (..., D)."""
        return look_up(self.row_UD, self.index)[0]

    def of(self, table: nn.Embedding) -> UniqueEmbeddings:
        """Return the embeddings of the same ids in another table."""
        id_U = self.id_U
        assert id_U is not None
        return UniqueEmbeddings(self.compute(table, lambda: look_up(table, id_U)[0]), self.index, id_U, self.computed)

    def compute(self, key: Any, make: Callable[[], _Result]) -> _Result:
        """Return ``make()``, a result that depends only on the rows and on ``key``, a module or a weight."""
        if self.computed is None:
            return make()
        if key not in self.computed:
            self.computed[key] = make()
        result: _Result = self.computed[key]
        return result


def look_up_history(
    table: nn.Embedding | Tensor, history_BL: Tensor, *ids: Tensor
) -> tuple[Tensor | UniqueEmbeddings, tuple[Tensor, ...]]:
    """Return the embeddings of the history and those of further ids.

    On the CPU the history is deduplicated; elsewhere its embeddings are (B, L, D).
    """
    table_VD = table.weight if isinstance(table, nn.Embedding) else table
    if not use_cpu_kernel(table_VD):
        history_BLD, *others = look_up(table, history_BL, *ids)
        return history_BLD, tuple(others)
    rows = table.num_embeddings if isinstance(table, nn.Embedding) else len(table)  # of all ranks, if it is divided
    unique_U, index_BL = unique_ids(history_BL, rows)
    row_UD, *others = look_up(table, unique_U, *ids)
    return UniqueEmbeddings(row_UD, index_BL, unique_U), tuple(others)


class HistoryLookup:
    """Embeddings of the histories of many batches, while the weights do not change.

    On the CPU and without gradients, all batches share the rows of the whole table and what is computed from these, if
    the table is not much larger than a batch. Otherwise the result is that of ``look_up_history``.

    Args:
        table: the item table.
    """

    def __init__(self, table: nn.Embedding) -> None:
        self.table, self.computed = table, dict[Any, Any]()

    def __call__(self, history_BL: Tensor) -> Tensor | UniqueEmbeddings:
        """Return the embeddings of a history (B, L)."""
        rows = self.table.num_embeddings
        if torch.is_grad_enabled() or _is_large(rows, history_BL) or not use_cpu_kernel(self.table.weight):
            return look_up_history(self.table, history_BL)[0]
        id_V = torch.arange(rows)
        if self.table not in self.computed:
            self.computed[self.table] = look_up(self.table, id_V)[0]
        return UniqueEmbeddings(self.computed[self.table], history_BL, id_V, self.computed)


def _is_large(rows: int, ids: Tensor) -> bool:
    """Return whether work on all rows of a table takes more time than sorting the ids of a batch."""
    return rows > 8 * ids.numel()


def unique_ids(ids: Tensor, limit: int) -> tuple[Tensor, Tensor]:
    """Return the unique ids (U,), ascending, and the index of every id into them; ids are below ``limit``."""
    if _is_large(limit, ids):
        unique: tuple[Tensor, Tensor] = ids.unique(return_inverse=True)  # type: ignore[no-untyped-call]
        return unique
    present_V = torch.zeros(limit, dtype=torch.bool, device=ids.device).index_fill_(0, ids.flatten(), True)
    return present_V.nonzero().squeeze(1), (present_V.cumsum(0) - 1)[ids]


def sum_rows(row_UD: Tensor, index_TN: Tensor) -> Tensor:
    """Return the sum (T, D) of the N rows of every position."""
    T, N = index_TN.shape
    return _segment_sums(row_UD, index_TN.flatten(), torch.arange(0, T * N, N))


def row_gradients(gradients: Sequence[Tensor], index_TN: Tensor, rows: int) -> list[Tensor]:
    """Segment-sum gradients of positions (T, D) into gradients of rows (U, D): the backward pass of ``sum_rows``.

    Sorting the positions by row first takes half the time of ``index_add_``.
    """
    index = index_TN.flatten()
    position = _stable_argsort(index, rows)
    if index_TN.shape[1] > 1:
        position.div_(index_TN.shape[1], rounding_mode="floor")
    count_U = torch.bincount(index, minlength=rows)
    first_U = count_U.cumsum(0).sub_(count_U)
    return [_segment_sums(gradient, position, first_U) for gradient in gradients]


def _segment_sums(row_UD: Tensor, index: Tensor, first: Tensor) -> Tensor:
    """Return the sums of ``row_UD[index]`` over segments that start at ``first``."""
    total: Tensor = torch.embedding_bag(row_UD, index, first)[0]
    return total


def _stable_argsort(number: Tensor, limit: int) -> Tensor:
    """Return the stable ascending order of non-negative integers below ``limit``; NumPy radix-sorts 16-bit ones."""
    if limit > 2**16:
        return number.argsort(stable=True)
    return torch.from_numpy(np.argsort(number.numpy().astype(np.uint16), kind="stable"))

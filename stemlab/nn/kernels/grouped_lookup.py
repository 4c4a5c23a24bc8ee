"""Lookups in several embedding tables whose gradients are computed together.

The reference is ``torch.nn.functional.embedding``, table by table. Its backward pass on a GPU sorts the ids of each
table in about ten small operations; here the ids of all tables are sorted once (docs/methods/kernels.md).

Legend: B batch, F fields, W width of a row, V rows of all tables.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional

from stemlab.nn.kernels.dispatch import PLAIN_TYPES, is_transformed, use_batched

# Undocumented operation of PyTorch, the backward pass of ``functional.embedding``.
_embedding_backward: Any = getattr(torch.ops.aten, "embedding_dense_backward", None)


def can_group(tables: Sequence[nn.Embedding]) -> bool:
    """Return whether ``look_up_together`` may replace the lookups: on accelerators, where a gradient is computed."""
    if _embedding_backward is None or len(tables) < 2 or not torch.is_grad_enabled():
        return False
    if any(type(table) is not nn.Embedding for table in tables):  # one with sparse gradients has a lookup of its own
        return False
    weights = [table.weight for table in tables]
    plain = all(type(weight) in PLAIN_TYPES and weight.requires_grad for weight in weights)
    return plain and use_batched(weights[0]) and (torch.compiler.is_compiling() or not is_transformed())


def look_up_together(ids: Sequence[Tensor], tables: Sequence[nn.Embedding]) -> Tensor:
    """Return the embeddings of F fields (B, F, W).

    Args:
        ids: for each field, (B,).
        tables: for each field, its table; tables may repeat and have the same padding row, none or row 0.
    """
    weights: list[Tensor] = []
    for table in tables:
        if not any(weight is table.weight for weight in weights):
            weights.append(table.weight)
    order = tuple(next(n for n, w in enumerate(weights) if w is table.weight) for table in tables)
    first = list(itertools.accumulate((len(weight) for weight in weights), initial=0))
    starts = tuple(first[table] for table in order)
    padded = tables[0].padding_idx is not None
    if torch.compiler.is_compiling():
        compiled: Tensor = _compiled_lookup(list(ids), weights, list(starts), list(order), padded)
        return compiled
    found: Tensor = _Lookup.apply(starts, order, padded, len(ids), *ids, *weights)  # type: ignore[no-untyped-call]
    return found


def _rows(ids: Sequence[Tensor], starts: Sequence[int], padded: bool) -> Tensor:
    """Return the rows (B, F) of all tables as one: row r of a table is row start + r, its padding row is row 0."""
    rows = [own + start if start else own for own, start in zip(ids, starts, strict=True)]
    row_BF = torch.stack(rows, dim=1)
    return row_BF.masked_fill(torch.stack(list(ids), dim=1) == 0, 0) if padded else row_BF


class _Lookup(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, starts: tuple[int, ...], order: tuple[int, ...], padded: bool, fields: int, *tensors: Tensor
    ) -> Tensor:
        ids, weights = tensors[:fields], tensors[fields:]
        ctx.save_for_backward(_rows(ids, starts, padded))
        ctx.sizes, ctx.padded = [len(weight) for weight in weights], padded
        found = [functional.embedding(own, weights[table]) for own, table in zip(ids, order, strict=True)]
        return torch.stack(found, dim=1)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_BFW: Tensor) -> tuple[Tensor | None, ...]:
        (row_BF,) = ctx.saved_tensors
        padding, rows = 0 if ctx.padded else -1, sum(ctx.sizes)
        grad_VW = _embedding_backward(grad_BFW.contiguous(), row_BF, rows, padding, False)
        return (*[None] * (4 + row_BF.shape[1]), *torch.split(grad_VW, ctx.sizes))


# torch.compile would replace the backward pass by an accumulating index_put, which is slow in its deterministic form.
# It does not look into the following operations.


@torch.library.custom_op(
    "stemlab::look_up_together",
    mutates_args=(),
    schema="(Tensor[] ids, Tensor[] weights, int[] starts, int[] order, bool padded) -> Tensor",
)
def _compiled_lookup(
    ids: list[Tensor], weights: list[Tensor], starts: list[int], order: list[int], padded: bool
) -> Tensor:
    found = [functional.embedding(own, weights[table]) for own, table in zip(ids, order, strict=True)]
    return torch.stack(found, dim=1)


@_compiled_lookup.register_fake
def _(ids: list[Tensor], weights: list[Tensor], starts: list[int], order: list[int], padded: bool) -> Tensor:
    return weights[0].new_empty(len(ids[0]), len(ids), weights[0].shape[1])


@torch.library.custom_op(
    "stemlab::look_up_together_backward",
    mutates_args=(),
    schema="(Tensor grad, Tensor row, int rows, int padding) -> Tensor",
)
def _compiled_backward(grad_BFW: Tensor, row_BF: Tensor, rows: int, padding: int) -> Tensor:
    grad_VW: Tensor = _embedding_backward(grad_BFW.contiguous(), row_BF, rows, padding, False)
    return grad_VW


@_compiled_backward.register_fake
def _(grad_BFW: Tensor, row_BF: Tensor, rows: int, padding: int) -> Tensor:
    return grad_BFW.new_empty(rows, grad_BFW.shape[2])


def _save(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    ids, weights, starts, _, padded = inputs
    ctx.save_for_backward(_rows(ids, starts, padded))
    ctx.sizes, ctx.padded = [len(weight) for weight in weights], padded


def _differentiate(ctx: Any, grad_BFW: Tensor) -> tuple[Any, ...]:
    (row_BF,) = ctx.saved_tensors
    grad_VW = _compiled_backward(grad_BFW, row_BF, sum(ctx.sizes), 0 if ctx.padded else -1)
    return [None] * row_BF.shape[1], list(torch.split(grad_VW, ctx.sizes)), None, None, None


_compiled_lookup.register_autograd(_differentiate, setup_context=_save)

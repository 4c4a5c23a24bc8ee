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
    weights = [table.weight for table in tables]
    plain = all(type(weight) in PLAIN_TYPES and weight.requires_grad for weight in weights)
    return plain and use_batched(weights[0]) and not is_transformed()


def look_up_together(ids: Sequence[Tensor], tables: Sequence[nn.Embedding]) -> Tensor:
    """Return the embeddings of F fields (B, F, W).

    Args:
        ids: for each field, (B,).
        tables: for each field, its table; tables may repeat and have the same padding row, none or row 0.
    """
    weights = list({id(table): table.weight for table in tables}.values())
    first = dict(zip(map(id, weights), itertools.accumulate((len(w) for w in weights), initial=0), strict=False))
    starts = tuple(first[id(table.weight)] for table in tables)
    order = tuple(next(n for n, w in enumerate(weights) if w is table.weight) for table in tables)
    padded = tables[0].padding_idx is not None
    found: Tensor = _Lookup.apply(starts, order, padded, len(ids), *ids, *weights)  # type: ignore[no-untyped-call]
    return found


class _Lookup(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, starts: tuple[int, ...], order: tuple[int, ...], padded: bool, fields: int, *tensors: Tensor
    ) -> Tensor:
        ids, weights = tensors[:fields], tensors[fields:]
        # all tables as one: row r of a table is row start + r; its padding row becomes row 0, the first one's
        rows = [own + start if start else own for own, start in zip(ids, starts, strict=True)]
        row_BF = torch.stack(rows, dim=1)
        if padded:
            row_BF = row_BF.masked_fill(torch.stack(list(ids), dim=1) == 0, 0)
        ctx.save_for_backward(row_BF)
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

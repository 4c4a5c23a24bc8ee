"""Embedding tables whose gradient holds only the rows that were looked up (docs/methods/tables.md).

Legend: V rows of a table, D embedding width, N looked-up ids.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional

from stemlab.nn.embedding import field_embeddings

ID_TABLES = ("users", "items", "categories", "item_bias")
"""Names of the attributes of sequential networks that are looked up by id; tables of positions are not."""


class RowEmbedding(nn.Embedding):
    """An ``nn.Embedding`` whose weight gets a sparse gradient: the looked-up ids and the gradient of each lookup.

    ``nn.Embedding(sparse=True)`` is not used, because its backward pass waits for the GPU when there is a padding row.
    """

    def forward(self, input: Tensor) -> Tensor:
        """Return the embeddings (..., D) of ids (...)."""
        if not torch.is_grad_enabled() or not self.weight.requires_grad or torch.compiler.is_exporting():
            return super().forward(input)
        found: Tensor = _looked_up(self.weight, input, self.padding_idx)
        return found


@torch.compiler.disable  # type: ignore[untyped-decorator]  # torch.compile cannot compile sparse gradients
def _looked_up(weight_VD: Tensor, ids: Tensor, padding: int | None) -> Tensor:
    found: Tensor = _RowLookup.apply(weight_VD, ids, padding)  # type: ignore[no-untyped-call]
    return found


class _RowLookup(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, weight_VD: Tensor, ids: Tensor, padding: int | None) -> Tensor:
        ctx.save_for_backward(ids)
        ctx.size, ctx.padding = weight_VD.shape, padding
        return functional.embedding(ids, weight_VD)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        ids_N = ctx.saved_tensors[0].reshape(-1).long()
        grad_ND = gradient.reshape(-1, ctx.size[1])
        if ctx.padding is not None:
            padded_N = ids_N == ctx.padding
            if gradient.device.type != "cpu" or padded_N.any():
                grad_ND = grad_ND.masked_fill(padded_N[:, None], 0)
        # without the check of the ids, which waits for a GPU; the lookup has checked them
        size = ctx.size
        return torch.sparse_coo_tensor(ids_N[None], grad_ND.contiguous(), size, check_invariants=False), None, None


def row_tables(net: nn.Module) -> dict[str, nn.Embedding]:
    """Return the tables that a network reads by id only, by the name of their module."""
    of_fields = {id(table) for embedding in field_embeddings(net) for table in embedding.tables}
    return {
        name: module
        for name, module in net.named_modules()
        if isinstance(module, nn.Embedding) and (id(module) in of_fields or name.rpartition(".")[2] in ID_TABLES)
    }


def use_row_gradients(net: nn.Module) -> None:
    """Let the tables that the network reads by id get sparse gradients; changes the class of the tables in place."""
    for table in row_tables(net).values():
        if table.weight.requires_grad:
            table.__class__ = RowEmbedding


def row_weight_names(module: nn.Module) -> list[str]:
    """Return the names of the parameters with sparse gradients."""
    return [f"{name}.weight" for name, part in module.named_modules() if isinstance(part, RowEmbedding)]

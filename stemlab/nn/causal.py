"""A transformer layer over histories of which, in the end, only the last state is wanted.

Legend: B rows, L history width, Q positions that ask, D width, A heads, d = D/A.
"""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor
from torch.nn import functional

from stemlab.nn.attention import TransformerLayer, causal_bias


class Relations(Protocol):
    """What a pair of positions adds to attention, beside the items there."""

    def scores(self, query_BAQd: Tensor) -> Tensor:
        """Return what to add to the scores before they are scaled, (B, A, Q, L)."""
        ...

    def context(self, weight_BAQL: Tensor) -> Tensor:
        """Return what to add to the contexts, (B, A, Q, d)."""
        ...


class CausalLayer(TransformerLayer):
    """``TransformerLayer`` in which a position sees itself and earlier ones.

    Right padding needs no mask of its own: no item comes after it.
    """

    def forward(
        self,
        x_BLD: Tensor,
        last_B: Tensor | None = None,
        relations: Relations | None = None,
        extra: tuple[Tensor, Tensor] | None = None,
    ) -> Tensor:
        """Return the states (B, Q, D).

        Args:
            x_BLD: input.
            last_B: index of each history's last item: only its state is computed, Q = 1. ``None``: all, Q = L.
            relations: terms of pairs of positions, for the Q positions that ask.
            extra: vectors added to the keys and to the values, (B, L, D) each.
        """
        B, L, D = x_BLD.shape
        asking_BQD = x_BLD if last_B is None else x_BLD[torch.arange(B, device=x_BLD.device), last_B].unsqueeze(1)
        query_BAQd, key_BALd, value_BALd = self.projections(x_BLD, asking_BQD, extra)
        score_BAQL = query_BAQd @ key_BALd.transpose(2, 3)
        if relations is not None:
            score_BAQL = score_BAQL + relations.scores(query_BAQd)
        mask = causal_bias(L, x_BLD.device, score_BAQL.dtype)
        mask = mask if last_B is None else mask[last_B].view(B, 1, 1, L)
        weight_BAQL = (score_BAQL * (D // self.heads) ** -0.5 + mask).softmax(dim=3)
        context_BAQd = weight_BAQL @ value_BALd
        if relations is not None:
            context_BAQd = context_BAQd + relations.context(weight_BAQL)
        return self.after_attention(context_BAQd.transpose(1, 2).reshape(asking_BQD.shape), asking_BQD)

    def projections(
        self, x_BLD: Tensor, asking_BQD: Tensor, extra: tuple[Tensor, Tensor] | None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return queries (B, A, Q, d) of the asking positions, keys and values (B, A, L, d) of all."""
        D = x_BLD.shape[2]
        query_BQD = functional.linear(asking_BQD, self.qkv.weight[:D], self.qkv.bias[:D])
        key_BLD, value_BLD = functional.linear(x_BLD, self.qkv.weight[D:], self.qkv.bias[D:]).chunk(2, dim=2)
        if extra is not None:
            key_BLD, value_BLD = key_BLD + extra[0], value_BLD + extra[1]
        query_BAQd, key_BALd, value_BALd = (self.by_head(part) for part in (query_BQD, key_BLD, value_BLD))
        return query_BAQd, key_BALd, value_BALd

    def by_head(self, x_BLD: Tensor) -> Tensor:
        """Return (B, A, L, d)."""
        return x_BLD.view(*x_BLD.shape[:2], self.heads, -1).transpose(1, 2)

"""Causal transformer layer over histories, for all positions or for the last one only.

Legend: B batch, L history width, Q query positions, D width, A heads, d = D/A.
"""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor
from torch.nn import functional

from stemlab.nn.attention import TransformerLayer, causal_bias


class PairwiseTerms(Protocol):
    """Pairwise (relative) attention terms, added to scores and contexts."""

    def scores(self, query_BAQd: Tensor) -> Tensor:
        """Return the term of the scores before scaling, (B, A, Q, L)."""
        ...

    def context(self, weight_BAQL: Tensor) -> Tensor:
        """Return the term of the contexts, (B, A, Q, d)."""
        ...


class CausalLayer(TransformerLayer):
    """``TransformerLayer`` in which every position attends to itself and earlier positions.

    Right padding needs no mask: no item comes after it.
    """

    def forward(
        self,
        x_BLD: Tensor,
        last_B: Tensor | None = None,
        relations: PairwiseTerms | None = None,
        extra: tuple[Tensor, Tensor] | None = None,
    ) -> Tensor:
        """Return the states (B, Q, D).

        Args:
            x_BLD: input.
            last_B: index of the last item of each history; only its state is computed, Q = 1. ``None``: all, Q = L.
            relations: pairwise terms for the Q query positions.
            extra: vectors added to the keys and to the values, (B, L, D) each.
        """
        B, L, D = x_BLD.shape
        input_BQD = x_BLD if last_B is None else x_BLD[torch.arange(B, device=x_BLD.device), last_B].unsqueeze(1)
        query_BAQd, key_BALd, value_BALd = self.projections(x_BLD, input_BQD, extra)
        score_BAQL = query_BAQd @ key_BALd.transpose(2, 3)
        if relations is not None:
            score_BAQL = score_BAQL + relations.scores(query_BAQd)
        mask = causal_bias(L, x_BLD.device, score_BAQL.dtype)
        mask = mask if last_B is None else mask[last_B].view(B, 1, 1, L)
        weight_BAQL = (score_BAQL * (D // self.heads) ** -0.5 + mask).softmax(dim=3)
        context_BAQd = weight_BAQL @ value_BALd
        if relations is not None:
            context_BAQd = context_BAQd + relations.context(weight_BAQL)
        return self.after_attention(context_BAQd.transpose(1, 2).reshape(input_BQD.shape), input_BQD)

    def projections(
        self, x_BLD: Tensor, input_BQD: Tensor, extra: tuple[Tensor, Tensor] | None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return queries (B, A, Q, d), and keys and values (B, A, L, d) of all positions."""
        D = x_BLD.shape[2]
        query_BQD = functional.linear(input_BQD, self.qkv.weight[:D], self.qkv.bias[:D])
        key_BLD, value_BLD = functional.linear(x_BLD, self.qkv.weight[D:], self.qkv.bias[D:]).chunk(2, dim=2)
        if extra is not None:
            key_BLD, value_BLD = key_BLD + extra[0], value_BLD + extra[1]
        query_BAQd, key_BALd, value_BALd = (self.by_head(part) for part in (query_BQD, key_BLD, value_BLD))
        return query_BAQd, key_BALd, value_BALd

    def by_head(self, x_BLD: Tensor) -> Tensor:
        """Split the heads: (B, L, D) -> (B, A, L, d)."""
        return x_BLD.view(*x_BLD.shape[:2], self.heads, -1).transpose(1, 2)

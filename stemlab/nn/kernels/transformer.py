"""The one-head transformer layer as one autograd node, for the processor.

The same function as the modules of ``TransformerLayer``, with three savings. Scores need no separate keys: up to terms
equal for all keys of a row, which a softmax ignores, ``(W_q x + b_q) . (W_k y + b_k)`` is
``(W_k^T W_q x + W_k^T b_q) . y``, so the inputs are the keys and one of three projections falls away; the gradient of
``b_k``, zero in exact arithmetic, is exactly zero. An input that is a sum of rows of tables (an item's, a position's)
is projected table by table, which have fewer rows than the batch has positions. And nothing is stored, copied or added
up that the backward pass does not need.

Legend: B rows, L sequence length, D width, T = B * L positions, U rows of all tables,
N tables.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional

from stemlab.nn.kernels.embedding_lookup import Distinct, put, take_back

EPS = 1e-5
layer_norm = torch.native_layer_norm
layer_norm_backward = torch.ops.aten.native_layer_norm_backward
softmax_backward = torch.ops.aten._softmax_backward_data
relu_backward = torch.ops.aten.threshold_backward.grad_input


def transformer_layer(x_BLD: Tensor, bias: Tensor, weights: Sequence[Tensor]) -> Tensor:
    """Return the layer's output (B, L, D).

    Args:
        x_BLD: input.
        bias: added to the scores; broadcast to (B, L, L), not trained.
        weights: of queries, keys and values stacked (3D, D), their biases (3D,); then weight and bias of the first
            norm, of both linears and of the second norm.
    """
    B, L, D = x_BLD.shape
    output: Tensor = _Layer.apply(bias, (B, L), None, 1, x_BLD.reshape(B * L, D), *weights)  # type: ignore[no-untyped-call]
    return output


def transformer_layer_of_rows(terms: Sequence[Distinct], bias: Tensor, weights: Sequence[Tensor]) -> Tensor:
    """Return the layer's output (B, L, D) for an input that is the sum of ``terms``, each (B, L, D)."""
    tables = [term.row_UD for term in terms]
    first = [0, *itertools.accumulate(len(table) for table in tables)]
    places = [term.place.flatten() for term in terms]
    places = [place + start if start else place for place, start in zip(places, first, strict=False)]
    place_TN = torch.stack(places, dim=1)
    shape = terms[0].place.shape
    output: Tensor = _Layer.apply(bias, shape, place_TN, len(tables), *tables, *weights)  # type: ignore[no-untyped-call]
    return output


class _Layer(torch.autograd.Function):
    """The first of ``tensors`` are tables; ``place_TN`` says which rows of all of them make up a position's input."""

    @staticmethod
    def forward(
        ctx: Any, bias: Tensor, shape: tuple[int, int], place_TN: Tensor | None, tables: int, *tensors: Tensor
    ) -> Tensor:
        w_qkv, b_qkv, g1, e1, w1, b1, w2, b2, g2, e2 = tensors[tables:]
        (B, L), D = shape, w_qkv.shape[1]
        table_UD = torch.cat(tensors[:tables]) if tables > 1 else tensors[0]
        weight, at_first = _ask_and_value(w_qkv, b_qkv)
        asked_UX = functional.linear(table_UD, weight)
        asked_UX[: len(tensors[0])] += at_first  # a sum has a row of the first table once
        x_TD, asked_TX = (p if place_TN is None else put(p, place_TN) for p in (table_UD, asked_UX))
        x_BLD, asked_BLX = x_TD.view(B, L, D), asked_TX.view(B, L, 2 * D)
        ask_BLD, value_BLD = asked_BLX[..., :D], asked_BLX[..., D:]
        score_BLL = torch.baddbmm(bias.expand(B, L, L), ask_BLD, x_BLD.transpose(1, 2))
        weight_BLL = torch.softmax(score_BLL, 2)
        sum1_TD = torch.baddbmm(x_BLD, weight_BLL, value_BLD).view(B * L, D)
        norm1_TD, mean1, scale1 = layer_norm(sum1_TD, (D,), g1, e1, EPS)
        hidden_TD = functional.linear(norm1_TD, w1, b1).relu_()
        sum2_TD = functional.linear(hidden_TD, w2, b2).add_(norm1_TD)
        output_TD, mean2, scale2 = layer_norm(sum2_TD, (D,), g2, e2, EPS)
        ctx.place_TN, ctx.rows = place_TN, [len(table) for table in tensors[:tables]]
        ctx.save_for_backward(
            *(table_UD, weight, w_qkv, b_qkv, g1, e1, w1, w2, g2, e2, mean1, scale1, mean2, scale2),
            *(x_BLD, ask_BLD, value_BLD, weight_BLL, sum1_TD, norm1_TD, hidden_TD, sum2_TD),
        )
        return output_TD.view(B, L, D)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_BLD: Tensor) -> tuple[Tensor | None, ...]:
        table_UD, weight, w_qkv, b_qkv, g1, e1, w1, w2, g2, e2, *rest = ctx.saved_tensors
        mean1, scale1, mean2, scale2, *states = rest
        *attention, sum1_TD, norm1_TD, hidden_TD, sum2_TD = states
        D, all_three = w_qkv.shape[1], [True] * 3
        # Each gradient is used up while it is in the cache.
        grad_TD = grad_BLD.reshape(sum2_TD.shape)
        d_sum2, d_g2, d_e2 = layer_norm_backward(grad_TD, sum2_TD, (D,), mean2, scale2, g2, e2, all_three)
        d_w2, d_b2 = d_sum2.t() @ hidden_TD, d_sum2.sum(0)
        d_hidden = functional.linear(d_sum2, w2.t())
        relu_backward(d_hidden, hidden_TD, 0, grad_input=d_hidden)
        d_w1, d_b1 = d_hidden.t() @ norm1_TD, d_hidden.sum(0)
        d_norm1 = functional.linear(d_hidden, w1.t()).add_(d_sum2)
        d_sum1, d_g1, d_e1 = layer_norm_backward(d_norm1, sum1_TD, (D,), mean1, scale1, g1, e1, all_three)
        parts = [part.flatten(0, 1) for part in _attention_backward(d_sum1.view(grad_BLD.shape), *attention)]
        if ctx.place_TN is not None:
            parts = take_back(parts, ctx.place_TN, len(table_UD))
        d_table, d_qkv = _projection_backward(table_UD, parts, weight, w_qkv, b_qkv, ctx.rows[0])
        d_tables = torch.split(d_table, ctx.rows)
        return (None, None, None, None, *d_tables, *d_qkv, d_g1, d_e1, d_w1, d_b1, d_w2, d_b2, d_g2, d_e2)


def _ask_and_value(w_qkv: Tensor, b_qkv: Tensor) -> tuple[Tensor, Tensor]:
    """Return weight (2D, D) and bias (2D,) of what an input asks, ``W_k^T (W_q x + b_q) / sqrt(D)``, and its value."""
    D = w_qkv.shape[1]
    asking = w_qkv[D : 2 * D].t() * D**-0.5
    return torch.cat([asking @ w_qkv[:D], w_qkv[2 * D :]]), torch.cat([asking @ b_qkv[:D], b_qkv[2 * D :]])


def _attention_backward(
    grad_BLD: Tensor, x_BLD: Tensor, ask_BLD: Tensor, value_BLD: Tensor, weight_BLL: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the gradients (B, L, D) of x as key and in the residual, of what it asks and of the values."""
    d_weight = torch.bmm(grad_BLD, value_BLD.transpose(1, 2))
    d_value = torch.bmm(weight_BLL.transpose(1, 2), grad_BLD)
    d_score = softmax_backward(d_weight, weight_BLL, 2, weight_BLL.dtype)
    d_x = torch.baddbmm(grad_BLD, d_score.transpose(1, 2), ask_BLD)
    return d_x, torch.bmm(d_score, x_BLD), d_value


def _projection_backward(
    table_UD: Tensor, parts: Sequence[Tensor], weight: Tensor, w_qkv: Tensor, b_qkv: Tensor, first: int
) -> tuple[Tensor, tuple[Tensor, Tensor]]:
    """Return the gradients of the table and of the stacked weight and bias."""
    D = w_qkv.shape[1]
    d_x, d_ask, d_value = parts
    d_table = torch.addmm(d_x, d_ask, weight[:D]).addmm_(d_value, weight[D:])
    # ask = M x + m with M = W_k^T W_q / sqrt(D) and m = W_k^T b_q / sqrt(D)
    w_q, w_k, _ = torch.split(w_qkv, D)
    d_M, d_m = (d_ask.t() @ table_UD).mul_(D**-0.5), d_ask[:first].sum(0).mul_(D**-0.5)
    d_k = torch.addmm(torch.outer(b_qkv[:D], d_m), w_q, d_M.t())
    d_bias = torch.cat([w_k @ d_m, torch.zeros_like(d_m), d_value[:first].sum(0)])
    return d_table, (torch.cat([w_k @ d_M, d_k, d_value.t() @ table_UD]), d_bias)

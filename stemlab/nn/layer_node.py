"""The one-head transformer layer as one autograd node, for the processor.

The same function as the modules of ``TransformerLayer``, with three savings. Scores need no separate keys: up to terms
equal for all keys of a row, which a softmax ignores, ``(W_q x + b_q) . (W_k y + b_k)`` is
``(W_k^T W_q x + W_k^T b_q) . y``, so the inputs are the keys and one of three projections falls away; the gradient of
``b_k``, zero in exact arithmetic, is exactly zero. An input that is a sum of rows of tables (an item's, a position's)
is projected table by table, which have fewer rows than the batch has positions. And nothing is stored, copied or added
up that the backward pass does not need.

Legend: B rows, L sequence length, D width, T = B * L positions, U rows of a table, X = 3D.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from stemlab.nn.dense import product
from stemlab.nn.rows import Distinct

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
    output: Tensor = _Layer.apply(bias, (B, L), (None,), x_BLD.reshape(B * L, D), *weights)  # type: ignore[no-untyped-call]
    return output


def transformer_layer_of_rows(terms: Sequence[Distinct], bias: Tensor, weights: Sequence[Tensor]) -> Tensor:
    """Return the layer's output (B, L, D) for an input that is the sum of ``terms``, each (B, L, D)."""
    places = tuple(term.place.flatten() for term in terms)
    tables = (term.row_UD for term in terms)
    output: Tensor = _Layer.apply(bias, terms[0].place.shape, places, *tables, *weights)  # type: ignore[no-untyped-call]
    return output


class _Layer(torch.autograd.Function):
    """``places`` says, for each of the tables whose rows make up the input, which row stands where (None: in order)."""

    @staticmethod
    def forward(
        ctx: Any, bias: Tensor, shape: tuple[int, int], places: Sequence[Tensor | None], *tensors: Tensor
    ) -> Tensor:
        tables, weights = tensors[: len(places)], tensors[len(places) :]
        w_qkv, b_qkv, g1, e1, w1, b1, w2, b2, g2, e2 = weights
        (B, L), D = shape, w_qkv.shape[1]
        trio_TX = _sum_of_rows(_with_projections(tables, w_qkv, b_qkv), places)
        x_BLD, ask_BLD, value_BLD = torch.split(trio_TX.view(B, L, 3 * D), D, dim=2)
        score_BLL = torch.baddbmm(bias.expand(B, L, L), ask_BLD, x_BLD.transpose(1, 2))
        weight_BLL = torch.softmax(score_BLL, 2)
        sum1_TD = torch.baddbmm(x_BLD, weight_BLL, value_BLD).view(B * L, D)
        norm1_TD, mean1, scale1 = layer_norm(sum1_TD, (D,), g1, e1, EPS)
        hidden_TD = product(norm1_TD, w1, b1).relu_()
        sum2_TD = product(hidden_TD, w2, b2).add_(norm1_TD)
        output_TD, mean2, scale2 = layer_norm(sum2_TD, (D,), g2, e2, EPS)
        ctx.places, ctx.tables = places, len(tables)
        ctx.save_for_backward(
            *(*tables, *weights, mean1, scale1, mean2, scale2),
            *(trio_TX, weight_BLL, sum1_TD, norm1_TD, hidden_TD, sum2_TD),
        )
        return output_TD.view(B, L, D)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_BLD: Tensor) -> tuple[Tensor | None, ...]:
        tables, rest = ctx.saved_tensors[: ctx.tables], ctx.saved_tensors[ctx.tables :]
        w_qkv, b_qkv, g1, e1, w1, _, w2, _, g2, e2 = rest[:10]
        mean1, scale1, mean2, scale2, trio_TX, weight_BLL, sum1_TD, norm1_TD, hidden_TD, sum2_TD = rest[10:]
        D, all_three = w_qkv.shape[1], [True] * 3
        # Each gradient is used up while it is in the cache.
        grad_TD = grad_BLD.reshape(sum2_TD.shape)
        d_sum2, d_g2, d_e2 = layer_norm_backward(grad_TD, sum2_TD, (D,), mean2, scale2, g2, e2, all_three)
        d_w2, d_b2 = d_sum2.t() @ hidden_TD, d_sum2.sum(0)
        d_hidden = product(d_sum2, w2.t())
        relu_backward(d_hidden, hidden_TD, 0, grad_input=d_hidden)
        d_w1, d_b1 = d_hidden.t() @ norm1_TD, d_hidden.sum(0)
        d_norm1 = product(d_hidden, w1.t()).add_(d_sum2)
        d_sum1, d_g1, d_e1 = layer_norm_backward(d_norm1, sum1_TD, (D,), mean1, scale1, g1, e1, all_three)
        d_trio = _attention_backward(d_sum1, trio_TX, weight_BLL)
        d_tables, d_qkv = _projection_backward(tables, ctx.places, d_trio, w_qkv, b_qkv)
        return (None, None, None, *d_tables, *d_qkv, d_g1, d_e1, d_w1, d_b1, d_w2, d_b2, d_g2, d_e2)


def _with_projections(tables: Sequence[Tensor], w_qkv: Tensor, b_qkv: Tensor) -> list[Tensor]:
    """Return, of every table, its rows, what they ask and their values, side by side (U, 3D)."""
    D = w_qkv.shape[1]
    weight, bias = _ask_and_value(w_qkv, b_qkv)
    trios = [table.new_empty(len(table), 3 * D) for table in tables]
    for number, (table, trio) in enumerate(zip(tables, trios, strict=True)):
        trio[:, :D] = table
        if number:  # the sum of their rows has the bias once
            torch.mm(table, weight.t(), out=trio[:, D:])
        else:
            torch.addmm(bias, table, weight.t(), out=trio[:, D:])
    return trios


def _ask_and_value(w_qkv: Tensor, b_qkv: Tensor) -> tuple[Tensor, Tensor]:
    """Return weight (2D, D) and bias (2D,) of the two projections."""
    D = w_qkv.shape[1]
    (w_q, w_k, w_v), (b_q, _, b_v) = torch.split(w_qkv, D), torch.split(b_qkv, D)
    scaled_k = w_k * D**-0.5
    return torch.cat([scaled_k.t() @ w_q, w_v]), torch.cat([b_q @ scaled_k, b_v])


def _sum_of_rows(tables: Sequence[Tensor], places: Sequence[Tensor | None]) -> Tensor:
    """Return the sum of the rows of all tables in their places (T, ...)."""
    rows = [t if p is None else t.index_select(0, p) for t, p in zip(tables, places, strict=True)]
    for row in rows[1:]:
        rows[0].add_(row)
    return rows[0]


def _attention_backward(grad_TD: Tensor, trio_TX: Tensor, weight_BLL: Tensor) -> Tensor:
    """Return the gradients of x as key and in the residual, of what it asks and of the values, side by side (T, 3D)."""
    B, L, _ = weight_BLL.shape
    grad_BLD, trio_BLX = grad_TD.view(B, L, -1), trio_TX.view(B, L, -1)
    D = grad_BLD.shape[2]
    x_BLD, ask_BLD, value_BLD = torch.split(trio_BLX, D, dim=2)
    d_weight = torch.bmm(grad_BLD, value_BLD.transpose(1, 2))
    d_value = torch.bmm(weight_BLL.transpose(1, 2), grad_BLD)
    d_score = softmax_backward(d_weight, weight_BLL, 2, weight_BLL.dtype)
    d_x = torch.baddbmm(grad_BLD, d_score.transpose(1, 2), ask_BLD)
    d_ask = torch.bmm(d_score, x_BLD)
    return torch.cat([d_x, d_ask, d_value], dim=2).view(trio_TX.shape)


def _projection_backward(
    tables: Sequence[Tensor], places: Sequence[Tensor | None], d_trio: Tensor, w_qkv: Tensor, b_qkv: Tensor
) -> tuple[list[Tensor], tuple[Tensor, Tensor]]:
    """Return the gradients of the tables and of the stacked weight and bias."""
    D = w_qkv.shape[1]
    root = D**-0.5
    weight, _ = _ask_and_value(w_qkv, b_qkv)
    d_weight, d_tables = torch.zeros_like(weight), []
    for table, place in zip(tables, places, strict=True):
        d_rows = d_trio if place is None else d_trio.new_zeros(len(table), 3 * D).index_add_(0, place, d_trio)
        d_weight.addmm_(d_rows[:, D:].t(), table)
        d_tables.append(torch.addmm(d_rows[:, :D], d_rows[:, D:], weight))
    # ask = M x + m with M = root W_k^T W_q and m = root W_k^T b_q
    w_q, w_k, _ = torch.split(w_qkv, D)
    d_M, d_m = d_weight[:D] * root, d_trio[:, D : 2 * D].sum(0) * root
    d_k = torch.addmm(torch.outer(b_qkv[:D], d_m), w_q, d_M.t())
    d_bias = torch.cat([w_k @ d_m, torch.zeros_like(d_m), d_trio[:, 2 * D :].sum(0)])
    return d_tables, (torch.cat([w_k @ d_M, d_k, d_weight[D:]]), d_bias)

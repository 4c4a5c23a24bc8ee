"""One-head transformer layer on unique embeddings, as one autograd node for the CPU.

The reference is ``TransformerLayer`` (docs/methods/timirec.md#transformer-layer). What the kernel saves:

- The key projection. A softmax ignores terms that are equal for all keys of a query, so up to such terms
  ``(W_q x + b_q) . (W_k y + b_k)`` is ``(W_k^T W_q x + W_k^T b_q) . y``: the inputs are the keys. The gradient of
  ``b_k``, zero in exact arithmetic, is exactly zero.
- Projections of repeated inputs. An input that is a sum of table rows (item and position) is projected table by table;
  the tables have fewer rows than the batch has positions.
- Tensors, copies and sums that the backward pass does not need.

Legend: B batch, L sequence length, D width, T = B * L positions, U rows of all tables, N tables.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from functools import cache
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional

from stemlab.nn.kernels.embedding_lookup import UniqueEmbeddings, row_gradients, sum_rows

_EPS = 1e-5  # of torch.nn.LayerNorm
# Undocumented operations of PyTorch; ``operations_available`` checks them before the kernel is used.
_layer_norm: Any = getattr(torch, "native_layer_norm", None)
_layer_norm_backward: Any = getattr(torch.ops.aten, "native_layer_norm_backward", None)
_softmax_backward: Any = getattr(torch.ops.aten, "_softmax_backward_data", None)
_relu_backward: Any = getattr(getattr(torch.ops.aten, "threshold_backward", None), "grad_input", None)


@cache
def operations_available() -> bool:
    """Return whether this PyTorch has the operations above, and they agree with their equations on an example."""
    x_TD, ones = torch.tensor([[1.0, -2.0, 4.0], [0.5, 3.0, -1.0]]), torch.ones(3)
    grad_TD = x_TD.flip(0, 1)
    try:
        norm_TD, mean, scale = _layer_norm(x_TD, (3,), ones, ones, _EPS)
        d_norm = _layer_norm_backward(grad_TD, x_TD, (3,), mean, scale, ones, ones, [True] * 3)
        d_softmax = _softmax_backward(grad_TD, x_TD.softmax(1), 1, x_TD.dtype)
        d_relu = grad_TD.clone()
        _relu_backward(d_relu, x_TD, 0, grad_input=d_relu)
    except (AttributeError, RuntimeError, TypeError):
        return False
    unit_TD, weight_TD = norm_TD - 1, x_TD.softmax(1)
    through_TD = grad_TD - unit_TD * (grad_TD * unit_TD).mean(1, keepdim=True)
    expected = {
        norm_TD: functional.layer_norm(x_TD, (3,), ones, ones, _EPS),
        d_norm[0]: (through_TD - grad_TD.mean(1, keepdim=True)) * scale,
        d_norm[1]: (grad_TD * unit_TD).sum(0),
        d_norm[2]: grad_TD.sum(0),
        d_softmax: weight_TD * (grad_TD - (grad_TD * weight_TD).sum(1, keepdim=True)),
        d_relu: grad_TD * (x_TD > 0),
    }
    return all(torch.allclose(found, reference, rtol=1e-4, atol=1e-5) for found, reference in expected.items())


def transformer_layer(terms: Sequence[UniqueEmbeddings], bias: Tensor, weights: Sequence[Tensor]) -> Tensor:
    """Return the output (B, L, D) of the layer for the input ``sum(term.dense() for term in terms)``.

    Args:
        terms: unique embeddings with indices (B, L).
        bias: added to the scores; broadcast to (B, L, L), not trained.
        weights: weight (3D, D) and bias (3D,) of queries, keys and values; then weight and bias of the first norm, of
            both linear layers and of the second norm.
    """
    tables = [term.row_UD for term in terms]
    first = [0, *itertools.accumulate(len(table) for table in tables)]
    indices = [term.index.flatten() for term in terms]
    indices = [index + start if start else index for index, start in zip(indices, first, strict=False)]
    index_TN, shape = torch.stack(indices, dim=1), terms[0].index.shape
    output: Tensor = _Layer.apply(bias, shape, index_TN, len(tables), *tables, *weights)  # type: ignore[no-untyped-call]
    return output


class _Layer(torch.autograd.Function):
    """Autograd node; ``tensors`` holds the tables, then the weights.

    Row t of ``index_TN`` lists the rows of the concatenated tables whose sum is the input at position t.
    """

    @staticmethod
    def forward(
        ctx: Any, bias: Tensor, shape: tuple[int, int], index_TN: Tensor, tables: int, *tensors: Tensor
    ) -> Tensor:
        w_qkv, b_qkv, g1, e1, w1, b1, w2, b2, g2, e2 = tensors[tables:]
        (B, L), D = shape, w_qkv.shape[1]
        table_UD = torch.cat(tensors[:tables]) if tables > 1 else tensors[0]
        weight, first_bias = query_and_value_weights(w_qkv, b_qkv)
        projected_UX = functional.linear(table_UD, weight)
        projected_UX[: len(tensors[0])] += first_bias  # every sum contains one row of the first table
        x_TD, projected_TX = (sum_rows(rows, index_TN) for rows in (table_UD, projected_UX))
        x_BLD, projected_BLX = x_TD.view(B, L, D), projected_TX.view(B, L, 2 * D)
        query_BLD, value_BLD = projected_BLX[..., :D], projected_BLX[..., D:]
        score_BLL = torch.baddbmm(bias.expand(B, L, L), query_BLD, x_BLD.transpose(1, 2))
        weight_BLL = torch.softmax(score_BLL, 2)
        sum1_TD = torch.baddbmm(x_BLD, weight_BLL, value_BLD).view(B * L, D)
        norm1_TD, mean1, scale1 = _layer_norm(sum1_TD, (D,), g1, e1, _EPS)
        hidden_TD = functional.linear(norm1_TD, w1, b1).relu_()
        sum2_TD = functional.linear(hidden_TD, w2, b2).add_(norm1_TD)
        output_TD, mean2, scale2 = _layer_norm(sum2_TD, (D,), g2, e2, _EPS)
        ctx.index_TN, ctx.rows = index_TN, [len(table) for table in tensors[:tables]]
        ctx.save_for_backward(
            *(table_UD, weight, w_qkv, b_qkv, g1, e1, w1, w2, g2, e2, mean1, scale1, mean2, scale2),
            *(x_BLD, query_BLD, value_BLD, weight_BLL, sum1_TD, norm1_TD, hidden_TD, sum2_TD),
        )
        output_BLD: Tensor = output_TD.view(B, L, D)
        return output_BLD

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_BLD: Tensor) -> tuple[Tensor | None, ...]:
        table_UD, weight, w_qkv, b_qkv, g1, e1, w1, w2, g2, e2, *rest = ctx.saved_tensors
        mean1, scale1, mean2, scale2, *states = rest
        *attention, sum1_TD, norm1_TD, hidden_TD, sum2_TD = states
        D, all_three = w_qkv.shape[1], [True] * 3
        # Every gradient is consumed right after it is made, while it is in the cache.
        grad_TD = grad_BLD.reshape(sum2_TD.shape)
        d_sum2, d_g2, d_e2 = _layer_norm_backward(grad_TD, sum2_TD, (D,), mean2, scale2, g2, e2, all_three)
        d_w2, d_b2 = d_sum2.t() @ hidden_TD, d_sum2.sum(0)
        d_hidden = d_sum2 @ w2
        _relu_backward(d_hidden, hidden_TD, 0, grad_input=d_hidden)
        d_w1, d_b1 = d_hidden.t() @ norm1_TD, d_hidden.sum(0)
        d_norm1 = d_sum2.addmm_(d_hidden, w1)
        d_sum1, d_g1, d_e1 = _layer_norm_backward(d_norm1, sum1_TD, (D,), mean1, scale1, g1, e1, all_three)
        parts = [part.flatten(0, 1) for part in _attention_backward(d_sum1.view(grad_BLD.shape), *attention)]
        parts = row_gradients(parts, ctx.index_TN, len(table_UD))
        d_table, d_qkv = _projection_backward(table_UD, parts, weight, w_qkv, b_qkv, ctx.rows[0])
        d_tables = torch.split(d_table, ctx.rows)
        return (None, None, None, None, *d_tables, *d_qkv, d_g1, d_e1, d_w1, d_b1, d_w2, d_b2, d_g2, d_e2)


def query_and_value_weights(w_qkv: Tensor, b_qkv: Tensor) -> tuple[Tensor, Tensor]:
    """Return weight (2D, D) and bias (2D,) of the merged query ``W_k^T (W_q x + b_q) / sqrt(D)`` and of the value."""
    D = w_qkv.shape[1]
    key = w_qkv[D : 2 * D].t() * D**-0.5
    return torch.cat([key @ w_qkv[:D], w_qkv[2 * D :]]), torch.cat([key @ b_qkv[:D], b_qkv[2 * D :]])


def _attention_backward(
    grad_BLD: Tensor, x_BLD: Tensor, query_BLD: Tensor, value_BLD: Tensor, weight_BLL: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the gradients (B, L, D) of x (key, residual), of the merged query and of the value.

    The first one replaces ``grad_BLD``.
    """
    d_weight = torch.bmm(grad_BLD, value_BLD.transpose(1, 2))
    d_value = torch.bmm(weight_BLL.transpose(1, 2), grad_BLD)
    d_score = _softmax_backward(d_weight, weight_BLL, 2, weight_BLL.dtype)
    grad_BLD.baddbmm_(d_score.transpose(1, 2), query_BLD)
    return grad_BLD, torch.bmm(d_score, x_BLD), d_value


def _projection_backward(
    table_UD: Tensor, parts: Sequence[Tensor], weight: Tensor, w_qkv: Tensor, b_qkv: Tensor, first: int
) -> tuple[Tensor, tuple[Tensor, Tensor]]:
    """Return the gradients of the tables and of the stacked weight and bias."""
    D = w_qkv.shape[1]
    d_x, d_query, d_value = parts
    d_table = torch.addmm(d_x, d_query, weight[:D]).addmm_(d_value, weight[D:])
    # merged query = M x + m with M = W_k^T W_q / sqrt(D) and m = W_k^T b_q / sqrt(D)
    w_q, w_k, _ = torch.split(w_qkv, D)
    d_M, d_m = (d_query.t() @ table_UD).mul_(D**-0.5), d_query[:first].sum(0).mul_(D**-0.5)
    d_k = torch.addmm(torch.outer(b_qkv[:D], d_m), w_q, d_M.t())
    d_bias = torch.cat([w_k @ d_m, torch.zeros_like(d_m), d_value[:first].sum(0)])
    return d_table, (torch.cat([w_k @ d_M, d_k, d_value.t() @ table_UD]), d_bias)

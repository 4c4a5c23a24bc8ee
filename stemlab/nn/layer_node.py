"""The one-head transformer layer as one autograd node, for the processor.

The same function as the modules of ``TransformerLayer``, with two savings. Scores need no separate keys: up to terms
equal for all keys of a row, which a softmax ignores, ``(W_q x + b_q) . (W_k y + b_k)`` is
``(W_k^T W_q x + W_k^T b_q) . y``, so the inputs are the keys and one of three projections falls away; the gradient of
``b_k``, zero in exact arithmetic, is exactly zero. And nothing is stored, copied or added up that the backward pass
does not need.

Legend: B rows, L sequence length, D width, T = B * L positions.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from stemlab.nn.dense import product

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
    result: Tensor = _Layer.apply(bias, x_BLD, *weights)  # type: ignore[no-untyped-call]
    return result


class _Layer(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, bias: Tensor, x_BLD: Tensor, *weights: Tensor) -> Tensor:
        w_qkv, b_qkv, g1, e1, w1, b1, w2, b2, g2, e2 = weights
        B, L, D = x_BLD.shape
        x_TD = x_BLD.reshape(B * L, D)
        x_BLD = x_TD.view(B, L, D)
        (w_q, w_k, w_v), (b_q, _, b_v) = torch.split(w_qkv, D), torch.split(b_qkv, D)
        scaled_k = w_k * D**-0.5
        ask_TD = product(x_TD, scaled_k.t() @ w_q, b_q @ scaled_k)
        value_TD = product(x_TD, w_v, b_v)
        score_BLL = torch.baddbmm(bias.expand(B, L, L), ask_TD.view(B, L, D), x_BLD.transpose(1, 2))
        weight_BLL = torch.softmax(score_BLL, 2)
        sum1_TD = torch.baddbmm(x_BLD, weight_BLL, value_TD.view(B, L, D)).view(B * L, D)
        norm1_TD, mean1, scale1 = layer_norm(sum1_TD, (D,), g1, e1, EPS)
        hidden_TD = product(norm1_TD, w1, b1).relu_()
        sum2_TD = product(hidden_TD, w2, b2).add_(norm1_TD)
        output_TD, mean2, scale2 = layer_norm(sum2_TD, (D,), g2, e2, EPS)
        statistics = (mean1, scale1, mean2, scale2)
        ctx.save_for_backward(
            *weights, *statistics, x_TD, ask_TD, value_TD, weight_BLL, sum1_TD, norm1_TD, hidden_TD, sum2_TD
        )
        return output_TD.view(B, L, D)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_BLD: Tensor) -> tuple[Tensor | None, ...]:
        weights, statistics, saved = ctx.saved_tensors[:10], ctx.saved_tensors[10:14], ctx.saved_tensors[14:]
        x_TD, ask_TD, value_TD, weight_BLL, sum1_TD, norm1_TD, hidden_TD, sum2_TD = saved
        w_qkv, b_qkv, g1, e1, w1, _, w2, _, g2, e2 = weights
        mean1, scale1, mean2, scale2 = statistics
        D = x_TD.shape[1]
        all_three = [True] * 3
        grad_TD = grad_BLD.reshape(x_TD.shape)
        d_sum2, d_g2, d_e2 = layer_norm_backward(grad_TD, sum2_TD, (D,), mean2, scale2, g2, e2, all_three)
        d_hidden = product(d_sum2, w2.t())
        relu_backward(d_hidden, hidden_TD, 0, grad_input=d_hidden)
        d_norm1 = product(d_hidden, w1.t()).add_(d_sum2)
        d_sum1, d_g1, d_e1 = layer_norm_backward(d_norm1, sum1_TD, (D,), mean1, scale1, g1, e1, all_three)
        d_x, d_qkv = _attention_backward(d_sum1, x_TD, ask_TD, value_TD, weight_BLL, w_qkv, b_qkv)
        feed = (d_hidden.t() @ norm1_TD, d_hidden.sum(0), d_sum2.t() @ hidden_TD, d_sum2.sum(0))
        return (None, d_x.view(grad_BLD.shape), *d_qkv, d_g1, d_e1, *feed, d_g2, d_e2)


def _attention_backward(
    grad_TD: Tensor, x_TD: Tensor, ask_TD: Tensor, value_TD: Tensor, weight_BLL: Tensor, w_qkv: Tensor, b_qkv: Tensor
) -> tuple[Tensor, tuple[Tensor, Tensor]]:
    """Return the gradient of x (T, D), residual included, and those of the stacked weight and bias."""
    B, L, _ = weight_BLL.shape
    D = x_TD.shape[1]
    w_q, w_k, w_v = torch.split(w_qkv, D)
    b_q, _, _ = torch.split(b_qkv, D)
    grad_BLD, x_BLD, ask_BLD, value_BLD = (t.view(B, L, D) for t in (grad_TD, x_TD, ask_TD, value_TD))
    d_weight = torch.bmm(grad_BLD, value_BLD.transpose(1, 2))
    d_score = softmax_backward(d_weight, weight_BLL, 2, weight_BLL.dtype)
    d_value = torch.bmm(weight_BLL.transpose(1, 2), grad_BLD).view(B * L, D)
    d_ask = torch.bmm(d_score, x_BLD).view(B * L, D)
    root = D**-0.5
    d_x = torch.baddbmm(grad_BLD, d_score.transpose(1, 2), ask_BLD).view(B * L, D)
    d_x.add_(product(d_ask, w_q.t() @ (w_k * root))).add_(product(d_value, w_v.t()))
    # ask = x M + m with M = root W_q^T W_k and m = root W_k^T b_q
    d_M, d_m = x_TD.t() @ d_ask * root, d_ask.sum(0) * root
    d_k = torch.addmm(torch.outer(b_q, d_m), w_q, d_M)
    d_weights = torch.cat([w_k @ d_M.t(), d_k, d_value.t() @ x_TD])
    return d_x, (d_weights, torch.cat([w_k @ d_m, torch.zeros_like(d_m), d_value.sum(0)]))

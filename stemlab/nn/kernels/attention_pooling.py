"""Self-attentive pooling of a history into interests as one autograd node, for the processor.

``V = softmax(W2 tanh(W1 s + b1) + b2 + bias)^T x``, a softmax over the history for every interest.

Legend: B rows, L history width, D width, K interests, A attention width, T = B * L positions.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional

softmax_backward = torch.ops.aten._softmax_backward_data
tanh_backward = torch.ops.aten.tanh_backward


def pool(state_BLD: Tensor, pooled_BLD: Tensor | None, bias: Tensor, weights: Sequence[Tensor]) -> Tensor:
    """Return the interests (B, K, D).

    Args:
        state_BLD: what the weights of the sums come from.
        pooled_BLD: what is summed; ``None``: the states.
        bias: added to the scores, broadcast to (B, K, L), not trained.
        weights: weight (A, D) and bias of the hidden linear, weight (K, A) and bias of the last one.
    """
    result: Tensor = _Pool.apply(bias, state_BLD, pooled_BLD, *weights)  # type: ignore[no-untyped-call]
    return result


class _Pool(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, bias: Tensor, state_BLD: Tensor, pooled_BLD: Tensor | None, *weights: Tensor) -> Tensor:
        w1, b1, w2, b2 = weights
        B, L, D = state_BLD.shape
        state_TD = state_BLD.reshape(B * L, D)
        hidden_TA = functional.linear(state_TD, w1, b1).tanh_()
        score_BLK = torch.addmm(b2, hidden_TA, w2.t()).view(B, L, -1)
        weight_BKL = (score_BLK.transpose(1, 2) + bias).contiguous().softmax(dim=2)
        ctx.own = pooled_BLD is None
        summed_BLD = state_TD.view(B, L, D) if pooled_BLD is None else pooled_BLD
        ctx.save_for_backward(state_TD, summed_BLD, hidden_TA, weight_BKL, w1, w2)
        return torch.bmm(weight_BKL, summed_BLD)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_BKD: Tensor) -> tuple[Tensor | None, ...]:
        state_TD, summed_BLD, hidden_TA, weight_BKL, w1, w2 = ctx.saved_tensors
        B, K, L = weight_BKL.shape
        d_weight = torch.bmm(grad_BKD, summed_BLD.transpose(1, 2))
        d_score = softmax_backward(d_weight, weight_BKL, 2, weight_BKL.dtype).transpose(1, 2).reshape(B * L, K)
        d_hidden = tanh_backward(torch.mm(d_score, w2), hidden_TA)
        d_state = functional.linear(d_hidden, w1.t()).view(summed_BLD.shape)
        weights = (d_hidden.t() @ state_TD, d_hidden.sum(0), d_score.t() @ hidden_TA, d_score.sum(0))
        if ctx.own:
            return (None, d_state.baddbmm_(weight_BKL.transpose(1, 2), grad_BKD), None, *weights)
        return (None, d_state, torch.bmm(weight_BKL.transpose(1, 2), grad_BKD), *weights)

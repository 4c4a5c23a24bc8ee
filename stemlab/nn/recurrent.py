"""A GRU of which only the last state is wanted.

On the processor torch's GRU makes some thirty small operations a time step and remembers each for the backward pass.
Here the whole sequence is one autograd node whose loops hold matrix products and a handful of element-wise operations
a step, over the rows that have not ended. Elsewhere torch's GRU runs on the padded batch.

Legend: B rows, L sequence length, D input width, H state width, T items of all rows, step by step, longest row first.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from stemlab.nn.dense import product
from stemlab.nn.one_node import one_node


class LastStateGRU(nn.GRU):
    """One-layer GRU over right-padded sequences; parameters and equations are those of ``torch.nn.GRU``.

    Args:
        width: D.
        hidden: H.
    """

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__(width, hidden, batch_first=True)

    def forward(self, x_BLD: Tensor, length_B: Tensor) -> Tensor:  # type: ignore[override]
        """Return every row's state after ``length_B`` (at least 1) steps (B, H)."""
        if one_node(x_BLD):
            place_T, order_B, counts = step_by_step(length_B, x_BLD.shape[1])
            weights = (self.weight_ih_l0, self.weight_hh_l0, self.bias_ih_l0, self.bias_hh_l0)
            x_TD = x_BLD.flatten(0, 1).index_select(0, place_T)
            state_BH: Tensor = _LastState.apply(counts, x_TD, *weights)  # type: ignore[no-untyped-call]
            return state_BH.index_select(0, order_B.argsort())
        every_BLH = super().forward(x_BLD)[0]
        return every_BLH[torch.arange(len(length_B), device=length_B.device), length_B - 1]


def step_by_step(length_B: Tensor, width: int) -> tuple[Tensor, Tensor, list[int]]:
    """Return the order in which a GRU meets the items of right-padded sequences.

    Returns:
        Place in the flattened (B, L) of every item (T,), first all first items, then all second ones, ...; the order
        of the rows in it (B,), longest first; rows that take part in each step, up to the longest.
    """
    order_B = length_B.argsort(descending=True, stable=True)
    step_L1 = torch.arange(width, device=length_B.device).unsqueeze(1)
    present_LB = step_L1 < length_B[order_B]
    counts: list[int] = present_LB.sum(dim=1).tolist()
    return (order_B * width + step_L1)[present_LB], order_B, [count for count in counts if count]


class _LastState(torch.autograd.Function):
    """Items (T, D) -> last states (B, H), rows longest first.

    Gates: r, z = sigmoid(W_i x + b_i + W_h h + b_h), n = tanh(W_in x + b_in + r m) with m = W_hn h + b_hn, and
    h' = n + z (h - n).
    """

    @staticmethod
    def forward(
        ctx: Any, counts: list[int], x_TD: Tensor, w_ih: Tensor, w_hh: Tensor, b_ih: Tensor, b_hh: Tensor
    ) -> Tensor:
        H = w_hh.shape[1]
        # Gates lie one after the other, not side by side: element-wise operations on slices of rows take far longer.
        weights = list(zip(torch.split(w_ih, H), torch.split(w_hh.t(), H, dim=1), strict=True))
        biases = [*torch.split((b_ih + b_hh)[: 2 * H], H), b_ih[2 * H :]]
        r_TH, z_TH, n_TH = (product(x_TD, w_i, bias) for (w_i, _), bias in zip(weights, biases, strict=True))
        w_r, w_z, w_m = (w_h for _, w_h in weights)
        b_m = b_hh[2 * H :]
        m_TH, before_TH = torch.empty_like(r_TH), torch.empty_like(r_TH)
        last_BH = x_TD.new_zeros(counts[0], H)
        steps = zip(counts, *(torch.split(t, counts) for t in (r_TH, z_TH, n_TH, m_TH, before_TH)), strict=True)
        for count, r, z, n, m, before in steps:
            state = before.copy_(last_BH[:count])
            r.addmm_(state, w_r).sigmoid_()
            z.addmm_(state, w_z).sigmoid_()
            torch.addmm(b_m, state, w_m, out=m)
            # tanh x = 2 sigmoid 2x - 1, at half the time of torch's tanh
            n.addcmul_(r, m).mul_(2).sigmoid_().mul_(2).sub_(1)
            torch.lerp(n, state, z, out=last_BH[:count])
        ctx.counts = counts
        ctx.save_for_backward(x_TD, w_ih, w_hh, r_TH, z_TH, n_TH, m_TH, before_TH)
        return last_BH

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_BH: Tensor) -> tuple[Tensor | None, ...]:
        x_TD, w_ih, w_hh, r, z, n, m_TH, before_TH = ctx.saved_tensors
        H = w_hh.shape[1]
        # What a step multiplies the gradient with, for all steps at once.
        to_n = (1 - z).mul_(1 - n * n)
        to_z = (before_TH - n).mul_(z).mul_(1 - z)
        to_r = (m_TH * r).mul_(1 - r)
        grad_T4 = x_TD.new_empty(len(x_TD), 4 * H)  # of n, r, z, m, so that both products see three in a row
        grad = grad_BH.clone()
        parts = (grad_T4, r, z, to_n, to_z, to_r)
        steps = list(zip(ctx.counts, *(torch.split(part, ctx.counts) for part in parts), strict=True))
        for count, out, r_t, z_t, to_n_t, to_z_t, to_r_t in reversed(steps):
            now = grad[:count]
            d_n = torch.mul(now, to_n_t, out=out[:, :H])
            torch.mul(d_n, to_r_t, out=out[:, H : 2 * H])
            torch.mul(now, to_z_t, out=out[:, 2 * H : 3 * H])
            torch.mul(d_n, r_t, out=out[:, 3 * H :])
            now.mul_(z_t).addmm_(out[:, H:], w_hh)
        into_i, into_h = grad_T4[:, : 3 * H], grad_T4[:, H:]
        d_x = into_i @ w_ih.roll(H, 0) if ctx.needs_input_grad[1] else None
        d_bias = grad_T4.sum(dim=0)
        return (
            None,
            d_x,
            (into_i.t() @ x_TD).roll(-H, 0),
            into_h.t() @ before_TH,
            d_bias[: 3 * H].roll(-H, 0),
            d_bias[H:],
        )

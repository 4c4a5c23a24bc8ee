"""A GRU of which only the last state is wanted.

On the processor torch's GRU makes some thirty small operations a time step and remembers each for the backward pass.
Here the whole sequence is one autograd node whose loops hold matrix products and a handful of element-wise operations
a step, over the rows that have not ended. Elsewhere torch's GRU runs on the padded batch.

Legend: B rows, L sequence length, D input width, H state width, T items of all rows, step by step, longest row first,
U different items.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional

from stemlab.nn.kernels.dispatch import use_cpu_kernel
from stemlab.nn.kernels.embedding_lookup import Distinct, take_back


class LastStateGRU(nn.GRU):
    """One-layer GRU over right-padded sequences; parameters and equations are those of ``torch.nn.GRU``.

    Args:
        width: D.
        hidden: H.
    """

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__(width, hidden, batch_first=True)

    def forward(self, x: Tensor | Distinct, length_B: Tensor) -> Tensor:  # type: ignore[override]
        """Return every row's state after ``length_B`` (at least 1) steps (B, H).

        Args:
            x: right-padded sequences (B, L, D), or the same with every different vector held once.
            length_B: true lengths.
        """
        if use_cpu_kernel(x.row_UD if isinstance(x, Distinct) else x, *self.parameters()):
            return self._by_node(x, length_B)
        every_BLH = super().forward(x.vectors() if isinstance(x, Distinct) else x)[0]
        return every_BLH[torch.arange(len(length_B), device=length_B.device), length_B - 1]

    def _by_node(self, x: Tensor | Distinct, length_B: Tensor) -> Tensor:
        weights = (self.weight_ih_l0, self.weight_hh_l0, self.bias_ih_l0, self.bias_hh_l0)
        steps = step_by_step(length_B, (x.place if isinstance(x, Distinct) else x).shape[1])
        if isinstance(x, Distinct):
            row_UD, place_T = x.row_UD, x.place.flatten()[steps.item_T]
        else:
            row_UD, place_T = x.flatten(0, 1).index_select(0, steps.item_T), None
        state_BH: Tensor = _LastState.apply(steps, place_T, row_UD, *weights)  # type: ignore[no-untyped-call]
        return state_BH


@dataclass(frozen=True, slots=True)
class Steps:
    """The order in which a GRU meets the items of right-padded sequences: all first ones, all second ones, ...

    Attributes:
        item_T: place of every item in the flattened (B, L).
        before_T: for the items after the first step, which item (of T) the row has before it.
        order_B: the rows, longest first.
        last_B: every row's last item (of T).
        counts: rows that take part in each step, up to the longest row.
    """

    item_T: Tensor
    before_T: Tensor
    order_B: Tensor
    last_B: Tensor
    counts: list[int]


def step_by_step(length_B: Tensor, width: int) -> Steps:
    """Return the steps of sequences of these lengths, padded to ``width``."""
    order_B = length_B.argsort(descending=True, stable=True)
    number_B = torch.arange(len(length_B), device=length_B.device)
    step_L1 = torch.arange(width, device=length_B.device).unsqueeze(1)
    present_LB = step_L1 < length_B[order_B]
    count_L = present_LB.sum(dim=1)
    place_LB = (count_L.cumsum(0) - count_L).unsqueeze(1) + number_B
    return Steps(
        item_T=(order_B * width + step_L1)[present_LB],
        before_T=place_LB[:-1][present_LB[1:]],
        order_B=order_B,
        last_B=place_LB[length_B - 1, order_B.argsort()],
        counts=[count for count in count_L.tolist() if count],
    )


class _LastState(torch.autograd.Function):
    """Items, step by step -> every row's last state (B, H); ``place_T`` says which of the vectors (U, D) each item is.

    Gates: r, z = sigmoid(W_i x + b_i + W_h h + b_h), n = tanh(W_in x + b_in + r m) with m = W_hn h + b_hn, and
    h' = n + z (h - n). They lie one after the other, not side by side: element-wise operations on slices of rows take
    far longer. As tanh x = 2 sigmoid 2x - 1, which takes half the time of torch's tanh, what goes into n is doubled.
    """

    @staticmethod
    def forward(ctx: Any, steps: Steps, place_T: Tensor | None, row_UD: Tensor, *weights: Tensor) -> Tensor:
        w_ih, w_hh, b_ih, b_hh = weights
        H, counts = w_hh.shape[1], steps.counts
        (i_r, i_z, i_n), (h_r, h_z, h_m) = torch.split(w_ih, H), torch.split(w_hh, H)
        b_r, b_z, _ = torch.split(b_ih + b_hh, H)
        inputs = ((i_r, b_r), (i_z, b_z), (i_n * 2, b_ih[2 * H :] * 2))
        gates = [functional.linear(row_UD, w, b) for w, b in inputs]
        r_TH, z_TH, n_TH = gates if place_T is None else [gate.index_select(0, place_T) for gate in gates]
        w_r, w_z, w_m, b_m = h_r.t(), h_z.t(), h_m.t() * 2, b_hh[2 * H :] * 2
        m_TH, state_TH = torch.empty_like(r_TH), torch.empty_like(r_TH)
        before, one = row_UD.new_zeros(counts[0], H), row_UD.new_ones(())
        pieces = zip(counts, *(torch.split(t, counts) for t in (r_TH, z_TH, n_TH, m_TH, state_TH)), strict=True)
        for count, r, z, n, m, state in pieces:
            before = before[:count]
            r.addmm_(before, w_r).sigmoid_()
            z.addmm_(before, w_z).sigmoid_()
            torch.addmm(b_m, before, w_m, out=m)
            n.addcmul_(r, m).sigmoid_().mul_(2).sub_(one)
            before = torch.lerp(n, before, z, out=state)
        ctx.steps, ctx.place_T = steps, place_T
        ctx.save_for_backward(row_UD, w_ih, w_hh, r_TH, z_TH, n_TH, m_TH, state_TH)
        return state_TH.index_select(0, steps.last_B)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_BH: Tensor) -> tuple[Tensor | None, ...]:
        row_UD, w_ih, w_hh, r, z, n, m, state_TH = ctx.saved_tensors
        H, first = w_hh.shape[1], ctx.steps.counts[0]
        before_TH = torch.cat([state_TH.new_zeros(first, H), state_TH.index_select(0, ctx.steps.before_T)])
        order = w_hh.new_tensor([1, 0, 2], dtype=torch.long)  # z, r, m
        back = w_hh.view(3, H, H)[order].reshape(3 * H, H)
        grad_BH = grad_BH.index_select(0, ctx.steps.order_B)
        grad_T4 = _through_time(grad_BH, ctx.steps.counts, back, r, z, n, m, before_TH)
        d_bias = grad_T4.sum(dim=0).view(4, H)
        d_hh = grad_T4[first:, H:].t() @ before_TH[first:]
        grad_U4 = grad_T4
        if ctx.place_T is not None:
            (grad_U4,) = take_back([grad_T4], ctx.place_T.unsqueeze(1), len(row_UD))
        into = grad_U4[:, : 3 * H]
        swapped = w_ih.view(3, H, -1).flip(0)  # n, z, r
        d_row = into @ swapped.reshape(3 * H, -1) if ctx.needs_input_grad[2] else None
        d_ih = (into.t() @ row_UD).view(3, H, -1).flip(0).reshape(w_ih.shape)
        d_hh = d_hh.view(3, H, H)[order].reshape(3 * H, H)
        return (None, None, d_row, d_ih, d_hh, d_bias[:3].flip(0).flatten(), d_bias[1:][order].flatten())


def _through_time(
    grad_BH: Tensor, counts: list[int], back: Tensor, r: Tensor, z: Tensor, n: Tensor, m: Tensor, before: Tensor
) -> Tensor:
    """Return the gradients of the inputs of n, z, r and of m, side by side (T, 4H).

    In this order the weights of the input meet the first three and those of the state the last three.

    Args:
        grad_BH: gradients of the last states, longest row first; used up.
        counts: rows in each step.
        back: weights of the state for z, r and m (3H, H).
        r: gate, as z and n (T, H).
        z: gate.
        n: gate.
        m: twice the state's part of n.
        before: states before.
    """
    H = r.shape[1]
    # What a step multiplies the gradient with, for all steps at once.
    to_n = (1 - z).mul_(1 - n * n)
    to_z = (before - n).mul_(z).mul_(1 - z)
    to_r = (m * r).mul_(1 - r).mul_(0.5)
    grad_T4 = r.new_empty(len(r), 4 * H)
    parts = (*torch.split(grad_T4, H, dim=1), grad_T4[:, H:], r, z, to_n, to_z, to_r)
    steps = zip(counts, *(torch.split(part, counts) for part in parts), strict=True)
    for count, d_n, d_z, d_r, d_m, into_state, r_t, z_t, to_n_t, to_z_t, to_r_t in reversed(list(steps)):
        now = grad_BH[:count]
        torch.mul(now, to_n_t, out=d_n)
        torch.mul(now, to_z_t, out=d_z)
        torch.mul(d_n, to_r_t, out=d_r)
        torch.mul(d_n, r_t, out=d_m)
        now.mul_(z_t).addmm_(into_state, back)
    return grad_T4

"""Last state of a GRU on unique embeddings, as one autograd node for the CPU.

The reference is ``LastStateGRU`` on the embedding of every position (docs/methods/timirec.md#interest-predictor). The
kernel saves:

- Input products of repeated items: they run on the unique embeddings, and their gradients are segment-summed to these.
- Autograd nodes of every step. Factors of the gradients that do not depend on later steps are computed for all steps at
  once.

Legend: B samples, L sequence length, T = L * B positions in the order of the steps, U unique embeddings, D input width,
H state width, X = 2 H: reset and update gate.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from stemlab.nn.kernels.embedding_lookup import UniqueEmbeddings, row_gradients


def last_gru_states(items: UniqueEmbeddings, length_B: Tensor, weights: Sequence[Tensor]) -> Tensor:
    """Return the state (B, H) of every sequence after ``length_B`` steps, which are at least 1.

    Args:
        items: unique embeddings (U, D) with an index (B, L).
        length_B: numbers of steps.
        weights: those of ``torch.nn.GRU``: ``weight_ih`` (3H, D), ``weight_hh`` (3H, H), ``bias_ih``, ``bias_hh``.
    """
    index_T = items.index.t().flatten()
    state_BH: Tensor = _LastStates.apply(items.row_UD, index_T, length_B - 1, *weights)  # type: ignore[no-untyped-call]
    return state_BH


class _LastStates(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x_UD: Tensor, index_T: Tensor, last_B: Tensor, *weights: Tensor) -> Tensor:
        w_in, w_state, b_in, b_state = weights
        B, H = len(last_B), w_state.shape[1]
        X, L = 2 * H, len(index_T) // B
        bias = torch.cat([b_in[:X] + b_state[:X], b_in[X:]])  # b_state of the new state is multiplied by the reset gate
        product_UY = torch.addmm(bias, x_UD, w_in.t())
        gate_LBX = product_UY[:, :X].index_select(0, index_T).view(L, B, X)
        new_LBH = product_UY[:, X:].index_select(0, index_T).view(L, B, H)
        hidden_LBH, state_MBH = x_UD.new_empty(L, B, H), x_UD.new_empty(L + 1, B, H)
        state_MBH[0] = 0
        for step in range(L):
            gate_BX, new_BH, hidden_BH, state_BH = gate_LBX[step], new_LBH[step], hidden_LBH[step], state_MBH[step]
            gate_BX.addmm_(state_BH, w_state[:X].t()).sigmoid_()
            torch.addmm(b_state[X:], state_BH, w_state[X:].t(), out=hidden_BH)
            new_BH.addcmul_(gate_BX[:, :H], hidden_BH).tanh_()
            torch.lerp(new_BH, state_BH, gate_BX[:, H:], out=state_MBH[step + 1])
        ctx.save_for_backward(x_UD, index_T, last_B, w_in, w_state, gate_LBX, new_LBH, hidden_LBH, state_MBH)
        return state_MBH[last_B + 1, torch.arange(B)]

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_BH: Tensor) -> tuple[Tensor | None, ...]:
        x_UD, index_T, last_B, w_in, w_state, gate_LBX, new_LBH, hidden_LBH, state_MBH = ctx.saved_tensors
        H, state_LBH = grad_BH.shape[1], state_MBH[:-1]
        gradients = _product_gradients(grad_BH, last_B, w_state, gate_LBX, new_LBH, hidden_LBH, state_LBH)
        d_gate_TX, d_new_TH, d_hidden_TH = (gradient.flatten(0, 1) for gradient in gradients)
        state_TH = state_LBH.flatten(0, 1)
        d_w_state = torch.cat([d_gate_TX.t() @ state_TH, d_hidden_TH.t() @ state_TH])
        d_gates = d_gate_TX.sum(0)
        d_b_in, d_b_state = (torch.cat([d_gates, d_TH.sum(0)]) for d_TH in (d_new_TH, d_hidden_TH))
        d_gate_UX, d_new_UH = row_gradients([d_gate_TX, d_new_TH], index_T.unsqueeze(1), len(x_UD))
        d_x = (d_gate_UX @ w_in[: 2 * H]).addmm_(d_new_UH, w_in[2 * H :])
        d_w_in = torch.cat([d_gate_UX.t() @ x_UD, d_new_UH.t() @ x_UD])
        return d_x, None, None, d_w_in, d_w_state, d_b_in, d_b_state


def _product_gradients(
    grad_BH: Tensor,
    last_B: Tensor,
    w_state: Tensor,
    gate_LBX: Tensor,
    new_LBH: Tensor,
    hidden_LBH: Tensor,
    state_LBH: Tensor,
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the gradients of the products: of the gates (L, B, X); of input and of state for the new state."""
    L, B, H = new_LBH.shape
    reset_LBH, update_LBH = gate_LBX[..., :H], gate_LBX[..., H:]
    by_new = torch.addcmul(new_LBH.new_ones(()), new_LBH, new_LBH, value=-1)
    by_new.addcmul_(update_LBH, by_new, value=-1)  # (1 - n^2) (1 - z)
    by_reset = torch.addcmul(reset_LBH, reset_LBH, reset_LBH, value=-1).mul_(hidden_LBH)
    by_update = torch.addcmul(update_LBH, update_LBH, update_LBH, value=-1).mul_(state_LBH - new_LBH)
    d_last = torch.zeros_like(new_LBH)
    d_last[last_B, torch.arange(B)] = grad_BH
    d_gate, d_new, d_hidden = (torch.empty_like(like) for like in (gate_LBX, new_LBH, new_LBH))
    d_state_BH = torch.zeros_like(grad_BH)
    for step in range(L - 1, -1, -1):
        d_state_BH += d_last[step]
        d_new_BH = torch.mul(d_state_BH, by_new[step], out=d_new[step])
        torch.mul(d_new_BH, by_reset[step], out=d_gate[step, :, :H])
        torch.mul(d_state_BH, by_update[step], out=d_gate[step, :, H:])
        torch.mul(d_new_BH, reset_LBH[step], out=d_hidden[step])
        d_state_BH = d_state_BH * update_LBH[step]
        d_state_BH.addmm_(d_gate[step], w_state[: 2 * H]).addmm_(d_hidden[step], w_state[2 * H :])
    return d_gate, d_new, d_hidden

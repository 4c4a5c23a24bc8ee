"""Last state of a GRU on unique embeddings, as one autograd node for the CPU.

The reference is ``LastStateGRU`` on the embedding of every position (docs/methods/timirec.md#interest-predictor). The
kernel saves:

- Input products of repeated items: they run on the unique embeddings, and their gradients are segment-summed to these.
- Autograd nodes of every step, and operations on strided tensors: the gates and the new state are separate parts, each
  contiguous (``[reset, update, new]``, the order of the weights of ``torch.nn.GRU``).

Legend: B samples, L sequence length, T = L * B positions in the order of the steps, M = L + 1, U unique embeddings,
D input width, H state width; 3 or P parts.
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
        w_in, w_state, b_in, b_state = map(_parts, weights)
        B, H = len(last_B), w_state.shape[2]
        part_3LBH = x_UD.new_empty(3, len(index_T) // B, B, H)
        # The state's bias of the new state is multiplied by the reset gate.
        for part_LBH, weight, bias in zip(part_3LBH, w_in, (*(b_in + b_state)[:2], b_in[2]), strict=True):
            torch.index_select(torch.addmm(bias, x_UD, weight.t()), 0, index_T, out=part_LBH.view(-1, H))
        hidden_LBH, state_MBH = _run(part_3LBH, w_state, b_state[2])
        ctx.save_for_backward(x_UD, index_T, last_B, *weights[:2], part_3LBH, hidden_LBH, state_MBH)
        return state_MBH[last_B + 1, torch.arange(B)]

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_BH: Tensor) -> tuple[Tensor | None, ...]:
        x_UD, index_T, last_B, w_in, w_state, part_3LBH, hidden_LBH, state_MBH = ctx.saved_tensors
        w_in, w_state = _parts(w_in), _parts(w_state)
        d_last_LBH = torch.zeros_like(hidden_LBH)
        d_last_LBH[last_B, torch.arange(len(last_B))] = grad_BH
        d_part_3LBH, d_hidden_LBH = _product_gradients(d_last_LBH, w_state, part_3LBH, hidden_LBH, state_MBH)
        state_TH, d_hidden_TH = state_MBH[:-1].flatten(0, 1), d_hidden_LBH.flatten(0, 1)
        d_part_TH = list(d_part_3LBH.flatten(1, 2))
        d_w_state = torch.cat([d_TH.t() @ state_TH for d_TH in (*d_part_TH[:2], d_hidden_TH)])
        d_part_UH = row_gradients(d_part_TH, index_T.unsqueeze(1), len(x_UD))
        d_b_parts = [d_UH.sum(0) for d_UH in d_part_UH]  # fewer rows than positions
        d_b_in, d_b_state = torch.cat(d_b_parts), torch.cat([*d_b_parts[:2], d_hidden_TH.sum(0)])
        d_x = d_part_UH[0] @ w_in[0]
        for d_UH, weight in zip(d_part_UH[1:], w_in[1:], strict=True):
            d_x.addmm_(d_UH, weight)
        d_w_in = torch.cat([d_UH.t() @ x_UD for d_UH in d_part_UH])
        return d_x, None, None, d_w_in, d_w_state, d_b_in, d_b_state


def _parts(weight: Tensor) -> Tensor:
    """Return the parts (3, ...) of a weight or bias of ``torch.nn.GRU``."""
    return weight.view(3, -1, *weight.shape[1:])


def _run(part_3LBH: Tensor, w_state: Tensor, bias_H: Tensor) -> tuple[Tensor, Tensor]:
    """Turn the input products into gates and new states, in place; return ``hidden`` (L, B, H) and states (M, B, H).

    ``r = sigmoid(x_r + W_r h);  z = sigmoid(x_z + W_z h);  hidden = W_n h + b;  n = tanh(x_n + r hidden);
    h' = n + z (h - n)``

    Args:
        part_3LBH: products of the input with the biases of both gates.
        w_state: weights (3, H, H) of the state.
        bias_H: the state's bias of the new state.
    """
    _, L, B, H = part_3LBH.shape
    hidden_LBH, state_MBH = bias_H.repeat(L, B, 1), part_3LBH.new_empty(L + 1, B, H)
    state_MBH[0] = 0
    by_reset, by_update, by_new = w_state.transpose(1, 2).unbind()
    states = state_MBH.unbind()
    steps = zip(*(part.unbind() for part in part_3LBH), part_3LBH[:2].unbind(1), hidden_LBH.unbind(), strict=True)
    for step, (reset_BH, update_BH, new_BH, gate_2BH, hidden_BH) in enumerate(steps):
        reset_BH.addmm_(states[step], by_reset)
        update_BH.addmm_(states[step], by_update)
        gate_2BH.sigmoid_()
        hidden_BH.addmm_(states[step], by_new)
        new_BH.addcmul_(reset_BH, hidden_BH).tanh_()
        torch.lerp(new_BH, states[step], update_BH, out=states[step + 1])
    return hidden_LBH, state_MBH


def _product_gradients(
    d_last_LBH: Tensor, w_state: Tensor, part_3LBH: Tensor, hidden_LBH: Tensor, state_MBH: Tensor
) -> tuple[Tensor, Tensor]:
    """Return the gradients of the input products (3, L, B, H) and of ``hidden`` (L, B, H), all before activations.

    Args:
        d_last_LBH: gradients of the states from outside the recurrence.
        w_state: weights (3, H, H) of the state.
        part_3LBH: reset gates r, update gates z and new states n.
        hidden_LBH: the state's product for the new state.
        state_MBH: states, the first one is zero.
    """
    d_part_3LBH, d_hidden_LBH = torch.empty_like(part_3LBH), torch.empty_like(hidden_LBH)
    by_reset, by_update, by_new = w_state.unbind()
    rest_BH, d_state_BH = torch.empty_like(d_last_LBH[0]), torch.zeros_like(d_last_LBH[0])
    values = zip(*(part.unbind() for part in part_3LBH), hidden_LBH.unbind(), state_MBH[1:].unbind(), strict=True)
    gradients = zip(d_last_LBH.unbind(), *(part.unbind() for part in d_part_3LBH), d_hidden_LBH.unbind(), strict=True)
    for value, gradient in zip(reversed(list(values)), reversed(list(gradients)), strict=True):
        reset_BH, update_BH, new_BH, hidden_BH, next_BH = value
        d_last_BH, d_reset_BH, d_update_BH, d_new_BH, d_hidden_BH = gradient
        d_next_BH = d_state_BH.add_(d_last_BH)
        d_state_BH = d_next_BH * update_BH
        d_tanh_BH = d_next_BH.sub_(d_state_BH)  # d h' (1 - z)
        torch.sub(next_BH, new_BH, out=d_update_BH).mul_(d_tanh_BH)  # z (h - n) = h' - n
        torch.mul(d_tanh_BH, new_BH, out=rest_BH)
        torch.addcmul(d_tanh_BH, rest_BH, new_BH, value=-1, out=d_new_BH)
        torch.mul(d_new_BH, reset_BH, out=d_hidden_BH)
        torch.mul(d_hidden_BH, hidden_BH, out=rest_BH)
        torch.addcmul(rest_BH, rest_BH, reset_BH, value=-1, out=d_reset_BH)
        d_state_BH.addmm_(d_reset_BH, by_reset).addmm_(d_update_BH, by_update).addmm_(d_hidden_BH, by_new)
    return d_part_3LBH, d_hidden_LBH

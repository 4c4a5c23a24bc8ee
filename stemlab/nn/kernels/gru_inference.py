"""Last state of a GRU without gradients, on the CPU.

The reference is ``LastStateGRU`` on the embedding of every position (docs/methods/timirec.md#interest-predictor).
Without a backward pass, one step needs no tensor of another step: the tensors of a step stay in the cache of the CPU.
Sequences that have ended take no part in further steps.

Legend: B sequences, b sequences of a step, L sequence length, U unique embeddings, D input width, H state width.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from stemlab.nn.kernels.embedding_lookup import UniqueEmbeddings


def input_products(row_UD: Tensor, weights: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """Return the input's part of both gates (U, 2H) and of the new state (U, H), with the biases that can be added.

    Args:
        row_UD: unique embeddings.
        weights: those of ``torch.nn.GRU``: ``weight_ih`` (3H, D), ``weight_hh`` (3H, H), ``bias_ih``, ``bias_hh``.
    """
    w_in, w_state, b_in, b_state = weights
    gates = 2 * w_state.shape[1]
    gate_U2H = torch.addmm(b_in[:gates] + b_state[:gates], row_UD, w_in[:gates].t())
    return gate_U2H, torch.addmm(b_in[gates:], row_UD, w_in[gates:].t())


def infer_last_states(items: UniqueEmbeddings, length_B: Tensor, weights: Sequence[Tensor]) -> Tensor:
    """Return the state (B, H) of every sequence after ``length_B`` steps, which are at least 1.

    ``r, z = sigmoid(x_g + W_g h);  n = tanh(x_n + r (W_n h + b_n));  h' = n + z (h - n)``

    Args:
        items: unique embeddings (U, D) with an index (B, L).
        length_B: numbers of steps.
        weights: those of ``input_products``.
    """
    _, w_state, _, b_state = weights
    gate_U2H, new_UH = items.compute(w_state, lambda: input_products(items.row_UD, weights))
    H = w_state.shape[1]
    by_gate, by_new, bias_H = w_state[: 2 * H].t().contiguous(), w_state[2 * H :].t().contiguous(), b_state[2 * H :]
    length_B, order_B = length_B.sort(descending=True)
    index_LB = items.index.index_select(0, order_B).t().contiguous()
    running_L = (length_B > torch.arange(len(index_LB)).unsqueeze(1)).sum(1).tolist()
    B = len(order_B)
    state_BH, all_gate_B2H = new_UH.new_zeros(B, H), new_UH.new_empty(B, 2 * H)
    all_new_BH, all_hidden_BH = torch.empty_like(state_BH), torch.empty_like(state_BH)
    for index_B, b in zip(index_LB, running_L, strict=True):
        if b == 0:
            break
        state_bH, gate_b2H, new_bH, hidden_bH = state_BH[:b], all_gate_B2H[:b], all_new_BH[:b], all_hidden_BH[:b]
        torch.index_select(gate_U2H, 0, index_B[:b], out=gate_b2H).addmm_(state_bH, by_gate).sigmoid_()
        torch.addmm(bias_H, state_bH, by_new, out=hidden_bH)
        torch.index_select(new_UH, 0, index_B[:b], out=new_bH).addcmul_(gate_b2H[:, :H], hidden_bH).tanh_()
        torch.lerp(new_bH, state_bH, gate_b2H[:, H:], out=state_bH)
    return torch.empty_like(state_BH).index_copy_(0, order_B, state_BH)

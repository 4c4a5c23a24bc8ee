"""Last state of a GRU without gradients, on the CPU.

The reference is ``LastStateGRU`` on the embedding of every position (docs/methods/timirec.md#interest-predictor).
Without a backward pass, one step needs no tensor of another step: the tensors of a step stay in the cache of the CPU.
Sequences that have ended take no part in further steps.

Legend: B sequences, b sequences of a step, L sequence length, U unique embeddings, D input width, H state width, X rows
of several parts; 3 parts, in the order of ``torch.nn.GRU``: reset gate, update gate, new state.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from stemlab.nn.kernels.embedding_lookup import UniqueEmbeddings


def input_products(row_UD: Tensor, weights: Sequence[Tensor]) -> Tensor:
    """Return the products of the input, with the biases that can be added, part after part: (3U, H).

    Args:
        row_UD: unique embeddings.
        weights: those of ``torch.nn.GRU``: ``weight_ih`` (3H, D), ``weight_hh`` (3H, H), ``bias_ih``, ``bias_hh``.
    """
    w_in, w_state, b_in, b_state = weights
    gates = 2 * w_state.shape[1]
    product_UY = torch.addmm(torch.cat([b_in[:gates] + b_state[:gates], b_in[gates:]]), row_UD, w_in.t())
    return torch.cat(product_UY.chunk(3, dim=1))


def infer_last_states(items: UniqueEmbeddings, length_B: Tensor, weights: Sequence[Tensor]) -> Tensor:
    """Return the state (B, H) of every sequence after ``length_B`` steps, which are at least 1.

    ``r = sigmoid(x_r + W_r h);  z = sigmoid(x_z + W_z h);  n = tanh(x_n + r (W_n h + b));  h' = n + z (h - n)``

    Args:
        items: unique embeddings (U, D) with an index (B, L).
        length_B: numbers of steps.
        weights: those of ``input_products``.
    """
    _, w_state, _, b_state = weights
    product_UH: Tensor = items.compute(w_state, lambda: input_products(items.row_UD, weights))
    by_reset, by_update, by_new = (weight.t().contiguous() for weight in w_state.chunk(3))
    length_B, order_B = length_B.sort(descending=True)
    state_BH = product_UH.new_zeros(len(order_B), w_state.shape[1])
    part_XH, all_hidden_BH = product_UH.new_empty(3 * len(order_B), w_state.shape[1]), torch.empty_like(state_BH)
    bias_H, b = b_state[-len(by_new) :], 0
    for row_X in _rows_of_steps(items.index.index_select(0, order_B), length_B, len(product_UH) // 3):
        if len(row_X) != 3 * b:
            b = len(row_X) // 3
            state_bH, hidden_bH, gate_XH, step_XH = state_BH[:b], all_hidden_BH[:b], part_XH[: 2 * b], part_XH[: 3 * b]
            reset_bH, update_bH, new_bH = step_XH.chunk(3)
        torch.index_select(product_UH, 0, row_X, out=step_XH)
        reset_bH.addmm_(state_bH, by_reset)
        update_bH.addmm_(state_bH, by_update)
        gate_XH.sigmoid_()
        torch.mm(state_bH, by_new, out=hidden_bH).add_(bias_H)
        new_bH.addcmul_(reset_bH, hidden_bH).tanh_()
        torch.lerp(new_bH, state_bH, update_bH, out=state_bH)
    return torch.empty_like(state_BH).index_copy_(0, order_B, state_BH)


def _rows_of_steps(index_BL: Tensor, length_B: Tensor, rows: int) -> Iterator[Tensor]:
    """Yield, for every step, the rows of the three parts of the sequences that have not ended, (3b,).

    Args:
        index_BL: row of every position in the first part; longest sequence first.
        length_B: lengths, descending.
        rows: rows of one part.
    """
    row_L3B = index_BL.t().contiguous().unsqueeze(1) + torch.arange(0, 3 * rows, rows).unsqueeze(1)
    running_L = (length_B > torch.arange(len(row_L3B)).unsqueeze(1)).sum(1).tolist()
    for row_3B, b in zip(row_L3B.unbind(), running_L, strict=True):
        if b:
            yield row_3B[:, :b].reshape(-1)

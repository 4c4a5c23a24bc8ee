"""GRU that returns the last state of each sequence.

Legend: B batch, L sequence length, D input width, H state width.
"""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn

from stemlab.nn.kernels.dispatch import use_cpu_kernel
from stemlab.nn.kernels.embedding_lookup import UniqueEmbeddings
from stemlab.nn.kernels.gru import last_gru_states
from stemlab.nn.kernels.gru_inference import infer_last_states


class LastStateGRU(nn.GRU):
    """One-layer ``torch.nn.GRU`` over right-padded sequences; parameters and equations are those of ``torch.nn.GRU``.

    It runs on the padded batch, which takes less time than packing short sequences; padding comes after the last item
    and does not change its state.

    Args:
        width: D.
        hidden: H.
    """

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__(width, hidden, batch_first=True)

    def forward(self, x_BLD: Tensor, length_B: Tensor) -> Tensor:  # type: ignore[override]
        """Return the state (B, H) of every sequence after ``length_B`` (at least 1) steps."""
        state_BLH = super().forward(x_BLD)[0]
        return state_BLH[torch.arange(length_B.shape[0], device=length_B.device), length_B - 1]

    def forward_unique(self, items: UniqueEmbeddings, length_B: Tensor) -> Tensor:
        """Return the states (B, H) for the input ``items.dense()``; the CPU kernel runs if it applies."""
        weights = cast(list[Tensor], [self.weight_ih_l0, self.weight_hh_l0, self.bias_ih_l0, self.bias_hh_l0])
        if use_cpu_kernel(items.row_UD, *weights):
            return (last_gru_states if torch.is_grad_enabled() else infer_last_states)(items, length_B, weights)
        state_BH: Tensor = self(items.dense(), length_B)
        return state_BH

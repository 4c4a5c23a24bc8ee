"""A GRU of which only the last state is wanted.

Legend: B rows, L sequence length, D input width, H state width.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn


class LastStateGRU(nn.GRU):
    """One-layer GRU over right-padded sequences; parameters and equations are those of ``torch.nn.GRU``.

    The whole padded batch goes through and each row's state is read at its own last step, which right padding cannot
    reach: nothing is sorted or packed.

    Args:
        width: D.
        hidden: H.
    """

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__(width, hidden, batch_first=True)

    def forward(self, x_BLD: Tensor, length_B: Tensor) -> Tensor:  # type: ignore[override]
        """Return every row's state after ``length_B`` steps (B, H)."""
        state_BLH = super().forward(x_BLD)[0]
        return state_BLH[torch.arange(len(length_B), device=length_B.device), length_B - 1]

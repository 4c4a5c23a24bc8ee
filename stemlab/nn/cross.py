"""Cross network of DCN V2.

Legend: B batch, W width of the input.
"""

from __future__ import annotations

from typing import cast

from torch import Tensor, nn


class CrossNetV2(nn.Module):
    """x_(l+1) = x_0 * (W_l x_l + b_l) + x_l (Wang et al., "DCN V2", WWW 2021, arXiv 2008.13535, equation 1).

    Args:
        width: W.
        layers: number of cross layers.
    """

    def __init__(self, width: int, layers: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(width, width) for _ in range(layers))

    def forward(self, x_BW: Tensor) -> Tensor:
        """Return the output (B, W) for an input (B, W)."""
        state_BW = x_BW
        for layer in self.layers:
            state_BW = state_BW.addcmul(x_BW, layer(state_BW))
        return state_BW

    def first_block(self, toward: slice, source: slice) -> Tensor:
        """Return rows ``toward``, columns ``source`` of the first layer's weight matrix."""
        return cast(nn.Linear, self.layers[0]).weight[toward, source]

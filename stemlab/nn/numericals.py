"""Numerical columns as fields: one vector per part or per column (docs/methods/mmfi.md#numerical-fields).

Legend: B samples, N numerical columns, G numerical fields, W width.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import torch
from torch import Tensor, nn

from stemlab.errors import StemlabError
from stemlab.nn.kernels.dispatch import static_shapes

NumericalEmbedding = Literal["grouped", "per_feature"]


class NumericalFields(nn.Module):
    """Columns (B, N) -> field vectors (B, G, W).

    Args:
        parts: column -> part of the dataset (``user``, ``item``), in column order.
        width: W.
        how: ``grouped``: one linear layer per part, x_g = W_g [columns of g] + b_g; ``per_feature``: one learned vector
            per column, x_n = value_n * v_n.
    """

    def __init__(self, parts: Mapping[str, str], width: int, how: NumericalEmbedding) -> None:
        super().__init__()
        self.columns: list[list[int]] = []
        self.lines = nn.ModuleList()
        self.vector_NW: nn.Parameter | None = None
        if how == "per_feature":
            self.names = tuple(parts)
            self.vector_NW = nn.Parameter(nn.init.xavier_uniform_(torch.empty(len(parts), width)))
            return
        found = dict.fromkeys(parts.values())
        self.names = tuple(part or "numerical" for part in found)
        for part in found:
            self.columns.append([number for number, other in enumerate(parts.values()) if other == part])
            self.lines.append(nn.Linear(len(self.columns[-1]), width))

    def forward(self, dense_BN: Tensor | None) -> Tensor:
        """Return the field vectors (B, G, W).

        Raises:
            StemlabError: the batch has no numerical columns.
        """
        if dense_BN is None:
            raise StemlabError("the network needs dense_BN, but the batch has none: use the dataset of training.")
        if self.vector_NW is not None:
            return dense_BN.unsqueeze(2) * self.vector_NW
        parts = [line(_columns(dense_BN, own)) for line, own in zip(self.lines, self.columns, strict=True)]
        return torch.stack(parts, dim=1)


def _columns(dense_BN: Tensor, own: list[int]) -> Tensor:
    """Return some columns; on accelerators without a list as index, which would be copied from the host."""
    if not static_shapes(dense_BN):
        return dense_BN[:, own]
    if own == list(range(own[0], own[-1] + 1)):
        return dense_BN[:, own[0] : own[-1] + 1]
    return torch.cat([dense_BN[:, number : number + 1] for number in own], dim=1)

"""Numerical columns as fields among others: one vector a group of columns, or one a column.

Legend: B rows, N numerical columns, G numerical fields, W width.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import torch
from torch import Tensor, nn

from stemlab.errors import StemlabError

How = Literal["grouped", "per_feature"]


class NumericalFields(nn.Module):
    """Columns (B, N) -> fields (B, G, W).

    ``grouped``: a linear layer a part of the dataset (``user``, ``item``) makes one vector of its columns.
    ``per_feature``: a learned vector a column, times its value.

    Args:
        parts: column -> part, in the order of the columns.
        width: W.
        how: see above.
    """

    def __init__(self, parts: Mapping[str, str], width: int, how: How) -> None:
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
        """Return the fields.

        Raises:
            StemlabError: the batch has no such columns.
        """
        if dense_BN is None:
            raise StemlabError("the network reads dense_BN, but the batch has none: its dataset is another one.")
        if self.vector_NW is not None:
            return dense_BN.unsqueeze(2) * self.vector_NW
        parts = [line(dense_BN[:, own]) for line, own in zip(self.lines, self.columns, strict=True)]
        return torch.stack(parts, dim=1)

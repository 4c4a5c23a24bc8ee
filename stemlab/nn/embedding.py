"""Embedding tables: one physical table a field, cut along its width into blocks.

Legend: B rows, F fields, V rows of a table, D width of a block, S blocks.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import cast

import torch
from torch import Tensor, nn


class FieldEmbedding(nn.Module):
    """Ids (B, F) -> one input (B, F*D) a block.

    A table is (V, S*D): block s of every field, field by field, makes input s. One gather a field serves all blocks
    (layout: spec/stem.md section 2).

    Args:
        fields: field -> table rows, in the order of the id columns.
        blocks: roles in the order of the blocks, such as ``task:like``, ``shared`` or ``expert:3``.
        embedding_dim: D.
        padding: id 0 is padding: its row starts at zero and is never trained.
    """

    def __init__(self, fields: Mapping[str, int], blocks: Sequence[str], embedding_dim: int, padding: bool) -> None:
        super().__init__()
        self.blocks = tuple(blocks)
        self.embedding_dim = embedding_dim
        width = embedding_dim * len(self.blocks)
        self.fields = tuple(fields)
        # A list, not a dictionary: a field may be called "type" or "keys", which a ModuleDict refuses.
        self.tables = nn.ModuleList(
            nn.Embedding(rows, width, padding_idx=0 if padding else None) for rows in fields.values()
        )

    @property
    def output_width(self) -> int:
        """Width of one input: F*D."""
        return len(self.tables) * self.embedding_dim

    def forward(self, ids_BF: Tensor) -> list[Tensor]:
        """Return one (B, F*D) input a block."""
        rows: list[Tensor] = [table(ids_BF[:, column]) for column, table in enumerate(self.tables)]
        if len(self.blocks) == 1:
            return [torch.cat(rows, dim=1)]
        by_field = [torch.split(row, self.embedding_dim, dim=1) for row in rows]
        return [torch.cat(block, dim=1) for block in zip(*by_field, strict=True)]

    def weights(self) -> list[nn.Parameter]:
        """Return the whole tables (V, S*D), in the order of the fields."""
        return [cast(nn.Parameter, table.weight) for table in self.tables]

    def views(self) -> dict[str, dict[str, Tensor]]:
        """Return field -> role -> (V, D) view into the weights."""
        return {
            field: dict(zip(self.blocks, torch.split(weight, self.embedding_dim, dim=1), strict=True))
            for field, weight in zip(self.fields, self.weights(), strict=True)
        }

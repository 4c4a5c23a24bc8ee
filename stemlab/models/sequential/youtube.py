"""YouTube: one linear layer on the mean of the history.

Covington et al., "Deep Neural Networks for YouTube Recommendations", RecSys 2016, in the form of the released code of
Wang et al., CIKM 2022 (docs/methods/sequential.md#youtube): one layer; the history is the only input.

Legend: B samples, L history width, D embedding width.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

from stemlab.data.batch import SequenceBatch
from stemlab.data.spec import SequenceSizes
from stemlab.models.sequential.base import counted_padding
from stemlab.models.sequential.one_vector import OneVectorNet
from stemlab.nn.init import initialise
from stemlab.types import PositiveInt


class YouTube(OneVectorNet):
    """u = W (sum_j e_j / n) + b.

    Args:
        sizes: number of users and items, longest history.
        embedding_dim: D.
        padding: ``masked``: padding adds nothing. ``published`` (released code): each padded position adds row 0 of the
            table, which is trained, but n counts items only; a score then depends on the longest history in its batch.
    """

    def __init__(
        self,
        sizes: SequenceSizes,
        *,
        embedding_dim: PositiveInt = 64,
        padding: Literal["masked", "published"] = "masked",
    ) -> None:
        super().__init__(sizes, embedding_dim)
        self.padding = padding
        self.uncapturable = counted_padding("model.net.padding=published", padding == "published")
        self.layer = nn.Linear(embedding_dim, embedding_dim)
        initialise(self, "rechorus")

    def encode(self, history_BLD: Tensor, batch: SequenceBatch) -> Tensor:
        """Return the user vectors (B, D)."""
        counted_BL = batch.history_BL > 0 if self.padding == "masked" else torch.ones_like(batch.history_BL)
        weight_BL = counted_BL.to(history_BLD.dtype) / batch.length_B.unsqueeze(1)
        user_BD: Tensor = self.layer(torch.bmm(weight_BL.unsqueeze(1), history_BLD).squeeze(1))
        return user_BD

"""YouTube: the mean of a history through one linear layer.

Covington et al., "Deep Neural Networks for YouTube Recommendations", RecSys 2016, in the form of the released code of
Wang et al., CIKM 2022 (spec/timirec.md section 9): one layer, no features but the history.

Legend: B rows, L history width, D embedding width.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

from stemlab.data.batch import SequenceBatch
from stemlab.data.spec import SequenceSizes
from stemlab.models.sequential.base import initialise
from stemlab.models.sequential.one_vector import OneVectorNet
from stemlab.types import PositiveInt


class YouTube(OneVectorNet):
    """u = W (sum_j e_j / n) + b.

    Args:
        sizes: users, items and the longest history.
        embedding_dim: D.
        padding: ``masked``: padding adds nothing. ``published``: every padded position adds the (trained) row 0 of the
            table while n counts true items only, so a score depends on the longest history of its batch.
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
        self.layer = nn.Linear(embedding_dim, embedding_dim)
        initialise(self)

    def encode(self, history_BLD: Tensor, batch: SequenceBatch) -> Tensor:
        """Return the users' vectors (B, D)."""
        counted_BL = batch.history_BL > 0 if self.padding == "masked" else torch.ones_like(batch.history_BL)
        weight_BL = counted_BL.to(history_BLD.dtype) / batch.length_B.unsqueeze(1)
        user_BD: Tensor = self.layer(torch.bmm(weight_BL.unsqueeze(1), history_BLD).squeeze(1))
        return user_BD

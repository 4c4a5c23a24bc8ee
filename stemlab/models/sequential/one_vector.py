"""Base class of networks with one vector per history (GRU4Rec, SASRec, TiSASRec, YouTube).

Legend: B samples, L history width, N candidates, D embedding width.
"""

from __future__ import annotations

from abc import abstractmethod

import torch
from torch import Tensor, nn

from stemlab.data.batch import SequenceBatch
from stemlab.data.spec import SequenceSizes
from stemlab.models.api import Phase, SequenceOutput
from stemlab.models.sequential.base import SequenceNet
from stemlab.nn.interest import dot_scores


class OneVectorNet(SequenceNet):
    """History -> user vector u; score(i) = <u, E[i]> in training and evaluation.

    Args:
        sizes: number of users and items, longest history.
        embedding_dim: D, width of the item table E, which histories and candidates share.
    """

    def __init__(self, sizes: SequenceSizes, embedding_dim: int) -> None:
        super().__init__(sizes)
        self.items = nn.Embedding(sizes.items + 1, embedding_dim)

    @abstractmethod
    def encode(self, history_BLD: Tensor, batch: SequenceBatch) -> Tensor:
        """Return the user vectors (B, D).

        Args:
            history_BLD: the item vectors of ``batch.history_BL``; row 0 of the table at padding.
            batch: lengths and times; its candidates are not read.
        """

    def forward(self, batch: SequenceBatch, phase: Phase = "eval") -> SequenceOutput:
        """Score the candidates; both phases are the same."""
        width = batch.history_BL.shape[1]
        # One lookup for both: the dense gradient of the table is then built once, not twice.
        both_BXD = self.items(torch.cat([batch.history_BL, batch.candidates_BN], dim=1))
        user_BD = self.encode(both_BXD[:, :width], batch)
        return SequenceOutput(dot_scores(user_BD, both_BXD[:, width:]))

    def represent(self, batch: SequenceBatch) -> Tensor:
        """Return the user vectors (B, 1, D)."""
        return self.encode(self.items(batch.history_BL), batch).unsqueeze(1)

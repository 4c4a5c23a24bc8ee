"""Networks that make one vector of a history.

Legend: B rows, L history width, N candidates, D embedding width.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from stemlab.data.batch import SequenceBatch
from stemlab.data.spec import SequenceSizes
from stemlab.models.api import Phase, SequenceOutput
from stemlab.models.sequential.base import SequenceNet
from stemlab.nn.interest import dot_scores


class OneVectorNet(SequenceNet):
    """History -> a vector; a candidate's score is its dot product with it, in training and in evaluation.

    Args:
        sizes: users, items and the longest history.
        embedding_dim: D, width of the item table, which histories and candidates share.
    """

    def __init__(self, sizes: SequenceSizes, embedding_dim: int) -> None:
        super().__init__(sizes)
        self.items = nn.Embedding(sizes.items + 1, embedding_dim)

    @abstractmethod
    def encode(self, history_BLD: Tensor, batch: SequenceBatch) -> Tensor:
        """Return the users' vectors (B, D).

        Args:
            history_BLD: the item vectors of ``batch.history_BL``; row 0 of the table at padding.
            batch: for lengths and times; its candidates are not for the encoder.
        """

    def forward(self, batch: SequenceBatch, phase: Phase = "eval") -> SequenceOutput:
        """Score the candidates; both phases are the same."""
        width = batch.history_BL.shape[1]
        # One look-up: the gradient of the whole table is then made once, not once for each use of it.
        both_BD = self.items(torch.cat([batch.history_BL, batch.candidates_BN], dim=1))
        user_BD = self.encode(both_BD[:, :width], batch)
        return SequenceOutput(dot_scores(user_BD, both_BD[:, width:]))

    def represent(self, batch: SequenceBatch) -> Tensor:
        """Return the one vector of each user, (B, 1, D)."""
        return self.encode(self.items(batch.history_BL), batch).unsqueeze(1)

    def item_vectors(self) -> Tensor:
        """Return the item table, (I+1, D)."""
        return self.items.weight

    def embedding_tables(self) -> Mapping[str, Mapping[str, Tensor]]:
        """Field -> role -> (rows, D) view."""
        return {"item_id": {"shared": self.items.weight}}

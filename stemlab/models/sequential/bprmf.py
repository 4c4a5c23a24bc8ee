"""BPRMF: matrix factorisation, one vector per user and one per item.

Rendle et al., "BPR: Bayesian Personalized Ranking from Implicit Feedback", UAI 2009
(docs/methods/sequential.md#bprmf).

Legend: B samples, N candidates, D embedding width.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from torch import Tensor, nn

from stemlab.data.batch import SequenceBatch
from stemlab.data.spec import SequenceSizes
from stemlab.models.api import Phase, SequenceOutput
from stemlab.models.sequential.base import SequenceNet
from stemlab.nn.init import initialise
from stemlab.nn.interest import dot_scores
from stemlab.types import PositiveInt


class BPRMF(SequenceNet):
    """score(u, i) = <U[u], E[i]>; the history is not read.

    Args:
        sizes: number of users and items.
        embedding_dim: D.
    """

    reads_history: ClassVar[bool] = False

    def __init__(self, sizes: SequenceSizes, *, embedding_dim: PositiveInt = 64) -> None:
        super().__init__(sizes)
        self.users = nn.Embedding(sizes.users + 1, embedding_dim)
        self.items = nn.Embedding(sizes.items + 1, embedding_dim)
        initialise(self, "rechorus")

    def forward(self, batch: SequenceBatch, phase: Phase = "eval") -> SequenceOutput:
        """Score the candidates; both phases are the same."""
        return SequenceOutput(dot_scores(self.users(batch.user_B), self.items(batch.candidates_BN)))

    def represent(self, batch: SequenceBatch) -> Tensor:
        """Return the user vectors (B, 1, D)."""
        user_BD: Tensor = self.users(batch.user_B)
        return user_BD.unsqueeze(1)

    def embedding_tables(self) -> Mapping[str, Mapping[str, Tensor]]:
        """Return field -> role -> (rows, D) view."""
        return {"user_id": {"shared": self.users.weight}, **super().embedding_tables()}

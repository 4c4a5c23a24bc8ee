"""BPRMF: matrix factorisation, a vector a user and a vector an item.

Rendle et al., "BPR: Bayesian Personalized Ranking from Implicit Feedback", UAI 2009 (spec/timirec.md section 9).

Legend: B rows, N candidates, D embedding width.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from torch import Tensor, nn

from stemlab.data.batch import SequenceBatch
from stemlab.data.spec import SequenceSizes
from stemlab.models.api import Phase, SequenceOutput
from stemlab.models.sequential.base import SequenceNet, initialise
from stemlab.nn.interest import dot_scores
from stemlab.types import PositiveInt


class BPRMF(SequenceNet):
    """score(i) = <U[u], E[i]>; the history is not read.

    Args:
        sizes: users and items.
        embedding_dim: D.
    """

    reads_history: ClassVar[bool] = False

    def __init__(self, sizes: SequenceSizes, *, embedding_dim: PositiveInt = 64) -> None:
        super().__init__(sizes)
        self.users = nn.Embedding(sizes.users + 1, embedding_dim)
        self.items = nn.Embedding(sizes.items + 1, embedding_dim)
        initialise(self)

    def forward(self, batch: SequenceBatch, phase: Phase = "eval") -> SequenceOutput:
        """Score the candidates; both phases are the same."""
        return SequenceOutput(dot_scores(self.users(batch.user_B), self.items(batch.candidates_BN)))

    def represent(self, batch: SequenceBatch) -> Tensor:
        """Return the users' vectors, (B, 1, D)."""
        user_BD: Tensor = self.users(batch.user_B)
        return user_BD.unsqueeze(1)

    def item_vectors(self) -> Tensor:
        """Return the item table, (I+1, D)."""
        return self.items.weight

    def embedding_tables(self) -> Mapping[str, Mapping[str, Tensor]]:
        """Field -> role -> (rows, D) view."""
        return {"user_id": {"shared": self.users.weight}, "item_id": {"shared": self.items.weight}}

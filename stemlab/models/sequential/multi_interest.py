"""Base class of networks with several interest vectors per user (ComiRec, MIND).

Legend: B samples, L history width, N candidates, K interests, D embedding width.
"""

from __future__ import annotations

from abc import abstractmethod

from torch import Tensor, nn

from stemlab.data.batch import SequenceBatch
from stemlab.data.spec import SequenceSizes
from stemlab.models.api import Phase, SequenceOutput
from stemlab.models.sequential.base import SequenceNet
from stemlab.nn.interest import best_scores, target_scores
from stemlab.nn.kernels.embedding_lookup import look_up


class MultiInterestNet(SequenceNet):
    """History -> K interests v_1 .. v_K; in evaluation score(i) = max_k <v_k, E[i]>.

    In training score(i) = <v_k*, E[i]> with k* = argmax_k <v_k, E[target]>, the interest nearest to the target.

    Args:
        sizes: number of users and items, longest history.
        embedding_dim: D, width of the item table, which histories and candidates share.
    """

    def __init__(self, sizes: SequenceSizes, embedding_dim: int) -> None:
        super().__init__(sizes)
        self.items = nn.Embedding(sizes.items + 1, embedding_dim)

    @abstractmethod
    def interests(self, history_BLD: Tensor, batch: SequenceBatch, phase: Phase) -> Tensor:
        """Return the interests (B, K, D).

        Args:
            history_BLD: the item vectors of ``batch.history_BL``; row 0 of the table at padding.
            batch: lengths and padding; its candidates are not read.
            phase: ``train`` or ``eval``.
        """

    def training_scores(self, interest_BKD: Tensor, candidate_BND: Tensor) -> Tensor:
        """Return the scores (B, N) of phase ``train``; the target is candidate 0."""
        return target_scores(interest_BKD, candidate_BND)

    def forward(self, batch: SequenceBatch, phase: Phase = "eval") -> SequenceOutput:
        """Score the candidates of a batch."""
        history_BLD, candidate_BND = look_up(self.items, batch.history_BL, batch.candidates_BN)
        interest_BKD = self.interests(history_BLD, batch, phase)
        scores = best_scores if phase == "eval" else self.training_scores
        return SequenceOutput(scores(interest_BKD, candidate_BND), interests_BKD=interest_BKD)

    def represent(self, batch: SequenceBatch) -> Tensor:
        """Return the interests (B, K, D) of evaluation."""
        return self.interests(self.items(batch.history_BL), batch, "eval")

"""ComiRec, self-attentive: several interests of a history, trained by the one nearest to the target.

Cen et al., "Controllable Multi-Interest Framework for Recommendation", KDD 2020, as released with TiMiRec
(spec/timirec.md section 9); without the controllable re-ranking.

Legend: B rows, L history width, N candidates, K interests, D embedding width, I items.
"""

from __future__ import annotations

from torch import Tensor, nn

from stemlab.data.batch import SequenceBatch
from stemlab.data.spec import SequenceSizes
from stemlab.models.api import Phase, SequenceOutput
from stemlab.models.sequential.base import SequenceNet, initialise
from stemlab.nn.interest import SelfAttentiveExtractor, best_scores, target_scores
from stemlab.nn.kernels.embedding_lookup import look_up
from stemlab.types import PositiveInt


class ComiRec(SequenceNet):
    """Attention over items and positions; the interests are sums of the plain item vectors.

    Args:
        sizes: users, items, longest history.
        embedding_dim: D.
        attention_dim: hidden width of the attention.
        num_interests: K.
        position_embedding: positions take part in the attention.
        mask_padding: padding takes no part in it.
    """

    def __init__(
        self,
        sizes: SequenceSizes,
        *,
        embedding_dim: PositiveInt = 64,
        attention_dim: PositiveInt = 8,
        num_interests: PositiveInt = 2,
        position_embedding: bool = True,
        mask_padding: bool = True,
    ) -> None:
        super().__init__(sizes)
        self.items = nn.Embedding(sizes.items + 1, embedding_dim)
        self.extractor = SelfAttentiveExtractor(
            sizes.history_max,
            embedding_dim,
            attention_dim,
            num_interests,
            position_embedding=position_embedding,
            transformer=False,
            pool_raw=True,
            mask_padding=mask_padding,
        )
        initialise(self)

    def forward(self, batch: SequenceBatch, phase: Phase = "eval") -> SequenceOutput:
        """Score the candidates: by the interest nearest to the target in training, by the best one in evaluation."""
        history_BLD, candidate_BND = look_up(self.items.weight, batch.history_BL, batch.candidates_BN)
        interest_BKD = self.extractor(history_BLD, batch.history_BL, batch.length_B)
        scores = best_scores if phase == "eval" else target_scores
        return SequenceOutput(scores(interest_BKD, candidate_BND), interests_BKD=interest_BKD)

    def represent(self, batch: SequenceBatch) -> Tensor:
        """Return the interests (B, K, D)."""
        interest_BKD: Tensor = self.extractor(self.items(batch.history_BL), batch.history_BL, batch.length_B)
        return interest_BKD

    def item_vectors(self) -> Tensor:
        """Return the item table (I+1, D)."""
        return self.items.weight

    def embedding_tables(self) -> dict[str, dict[str, Tensor]]:
        """Field -> role -> (rows, D) view."""
        tables: dict[str, dict[str, Tensor]] = {"item_id": {"shared": self.items.weight}}
        if self.extractor.positions is not None:
            tables["position"] = {"shared": self.extractor.positions.weight}
        return tables

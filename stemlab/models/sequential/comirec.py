"""ComiRec with self-attentive extraction: several interests per history, trained by the one nearest to the target.

Cen et al., "Controllable Multi-Interest Framework for Recommendation", KDD 2020, in the form of the code released with
TiMiRec (docs/methods/sequential.md#comirec); without the controllable re-ranking.

Legend: B samples, L history width, K interests, D embedding width.
"""

from __future__ import annotations

from torch import Tensor

from stemlab.data.batch import SequenceBatch
from stemlab.data.spec import SequenceSizes
from stemlab.models.api import Phase
from stemlab.models.sequential.base import counted_padding
from stemlab.models.sequential.multi_interest import MultiInterestNet
from stemlab.nn.init import initialise
from stemlab.nn.interest import SelfAttentiveExtractor
from stemlab.types import PositiveInt


class ComiRec(MultiInterestNet):
    """v_k = sum_j a_kj e_j with a_kj = softmax_j(W_2 tanh(W_1 (e_j + p_(n-j)) + b_1) + b_2)_k, j = 0 .. n-1.

    The softmax does not depend on b_2, so its gradient is only rounding noise, and its value differs between runs on
    different numbers of processes.

    Args:
        sizes: number of users and items, longest history.
        embedding_dim: D.
        attention_dim: hidden width of the attention.
        num_interests: K.
        position_embedding: add the position vectors p in the attention.
        mask_padding: give padding no attention.
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
        super().__init__(sizes, embedding_dim)
        self.uncapturable = counted_padding("model.net.mask_padding=false", not mask_padding)
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
        initialise(self, "rechorus")

    def interests(self, history_BLD: Tensor, batch: SequenceBatch, phase: Phase) -> Tensor:
        """Return the interests (B, K, D); both phases are the same."""
        del phase
        interest_BKD: Tensor = self.extractor(history_BLD, batch.history_BL, batch.length_B)
        return interest_BKD

    def embedding_tables(self) -> dict[str, dict[str, Tensor]]:
        """Return field -> role -> (rows, D) view."""
        tables: dict[str, dict[str, Tensor]] = {"item_id": {"shared": self.items.weight}}
        if self.extractor.positions is not None:
            tables["position"] = {"shared": self.extractor.positions.weight}
        return tables

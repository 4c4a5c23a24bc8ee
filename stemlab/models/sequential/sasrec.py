"""SASRec: causal self-attention over the history.

Kang and McAuley, "Self-Attentive Sequential Recommendation", ICDM 2018, in the form of the released code of Wang et
al., CIKM 2022 (docs/methods/sequential.md#sasrec): post-norm layers, positions counted from the newest item.

Legend: B samples, L history width, D embedding width.
"""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn

from stemlab.data.batch import SequenceBatch
from stemlab.data.spec import SequenceSizes
from stemlab.errors import StemlabError
from stemlab.models.sequential.one_vector import OneVectorNet
from stemlab.nn.causal import CausalLayer
from stemlab.nn.init import initialise
from stemlab.nn.interest import position_ids
from stemlab.types import Dropout, PositiveInt


class SASRec(OneVectorNet):
    """u = state of the last item after ``num_layers`` causal transformer layers on e_j + p_(n-j), j = 0 .. n-1.

    Args:
        sizes: number of users and items, longest history.
        embedding_dim: D.
        num_layers: transformer layers; the last one computes only the state of the last item.
        num_heads: attention heads of a layer, a divisor of ``embedding_dim``.
        dropout: after the attention and after the feed-forward part of each layer.
    """

    def __init__(
        self,
        sizes: SequenceSizes,
        *,
        embedding_dim: PositiveInt = 64,
        num_layers: PositiveInt = 1,
        num_heads: PositiveInt = 4,
        dropout: Dropout = 0.0,
    ) -> None:
        self.check_settings({"embedding_dim": embedding_dim, "num_heads": num_heads})
        super().__init__(sizes, embedding_dim)
        self.positions = nn.Embedding(sizes.history_max + 1, embedding_dim)
        self.layers = nn.ModuleList(CausalLayer(embedding_dim, num_heads, dropout) for _ in range(num_layers))
        initialise(self, "rechorus")

    @classmethod
    def check_settings(cls, settings: Mapping[str, object]) -> None:
        """Raise StemlabError unless ``num_heads`` divides ``embedding_dim``; needs no data, only settings."""
        check_heads(settings)

    def encode(self, history_BLD: Tensor, batch: SequenceBatch) -> Tensor:
        """Return the user vectors (B, D)."""
        state_BLD = history_BLD + self.positions(position_ids(batch.length_B, history_BLD.shape[1]))
        *lower, last = self.layers
        for layer in lower:
            state_BLD = layer(state_BLD)
        user_B1D: Tensor = last(state_BLD, batch.length_B - 1)
        return user_B1D.squeeze(1)

    def embedding_tables(self) -> Mapping[str, Mapping[str, Tensor]]:
        """Return field -> role -> (rows, D) view."""
        return {**super().embedding_tables(), "position": {"shared": self.positions.weight}}


def check_heads(settings: Mapping[str, object]) -> None:
    """Raise StemlabError unless ``num_heads`` divides ``embedding_dim``."""
    width, heads = settings["embedding_dim"], settings["num_heads"]
    if isinstance(width, int) and isinstance(heads, int) and width % heads:
        raise StemlabError(
            f"model.net.num_heads={heads} must divide model.net.embedding_dim={width}: all heads have the "
            "same width. Choose a divisor."
        )

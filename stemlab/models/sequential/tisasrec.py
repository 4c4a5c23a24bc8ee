"""TiSASRec: causal self-attention with embeddings of positions and time gaps.

Li et al., "Time Interval Aware Self-Attention for Sequential Recommendation", WSDM 2020, in the form of the released
code of Wang et al., CIKM 2022 (docs/methods/sequential.md#tisasrec).

Legend: B samples, L history width, Q query positions, D embedding width, A heads, d = D/A, G time gaps.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from stemlab.data.batch import SequenceBatch
from stemlab.data.spec import SequenceSizes
from stemlab.errors import StemlabError
from stemlab.models.sequential.one_vector import OneVectorNet
from stemlab.models.sequential.sasrec import check_heads
from stemlab.nn.causal import CausalLayer
from stemlab.nn.init import initialise
from stemlab.nn.interest import position_ids
from stemlab.types import Dropout, NonNegativeInt, PositiveInt


class TiSASRec(OneVectorNet):
    """u = state of the last item; positions and time gaps are added to keys and values, not to the input.

    score_ab = <q_a, k_b + Pk_b + Tk_r> / sqrt(d), alpha = softmax_b(score), out_a = sum_b alpha_ab (v_b + Pv_b + Tv_r)
    with the gap r = min(floor(|t_a - t_b| / smallest gap of the user), ``time_max``).

    Args:
        sizes: number of users and items, longest history.
        embedding_dim: D.
        num_layers: transformer layers; the last one computes only the state of the last item.
        num_heads: attention heads of a layer, a divisor of ``embedding_dim``.
        time_max: largest time gap, in units of the user's smallest gap; longer gaps are cut to it.
        dropout: after the attention and after the feed-forward part of each layer.
    """

    def __init__(
        self,
        sizes: SequenceSizes,
        *,
        embedding_dim: PositiveInt = 64,
        num_layers: PositiveInt = 1,
        num_heads: PositiveInt = 4,
        time_max: NonNegativeInt = 512,
        dropout: Dropout = 0.0,
    ) -> None:
        self.check_settings({"embedding_dim": embedding_dim, "num_heads": num_heads})
        super().__init__(sizes, embedding_dim)
        self.time_max = time_max
        self.num_heads = num_heads
        self.position_keys, self.position_values = (
            nn.Embedding(sizes.history_max + 1, embedding_dim) for _ in range(2)
        )
        self.gap_keys, self.gap_values = (nn.Embedding(time_max + 1, embedding_dim) for _ in range(2))
        self.layers = nn.ModuleList(CausalLayer(embedding_dim, num_heads, dropout) for _ in range(num_layers))
        initialise(self, "rechorus")

    @classmethod
    def check_settings(cls, settings: Mapping[str, object]) -> None:
        """Raise StemlabError unless ``num_heads`` divides ``embedding_dim``; needs no data, only settings."""
        check_heads(settings)

    def encode(self, history_BLD: Tensor, batch: SequenceBatch) -> Tensor:
        """Return the user vectors (B, D).

        Raises:
            StemlabError: the batch has no times.
        """
        position_BL = position_ids(batch.length_B, history_BLD.shape[1])
        extra = (self.position_keys(position_BL), self.position_values(position_BL))
        gap_BLL = self.gaps(batch)
        last_B = batch.length_B - 1
        last_gap_B1L = gap_BLL[torch.arange(last_B.shape[0], device=last_B.device), last_B].unsqueeze(1)
        *lower, last = self.layers
        state_BLD = history_BLD
        for layer in lower:
            state_BLD = layer(state_BLD, None, self.relations(gap_BLL), extra)
        user_B1D: Tensor = last(state_BLD, last_B, self.relations(last_gap_B1L), extra)
        return user_B1D.squeeze(1)

    def gaps(self, batch: SequenceBatch) -> Tensor:
        """Return the time gaps of all pairs of positions, (B, L, L) in 0 to ``time_max``."""
        if batch.time_BL is None or batch.unit_B is None:
            raise StemlabError("TiSASRec needs timestamps, but the batch has none: set dataset.times=true.")
        gap_BLL = (batch.time_BL.unsqueeze(2) - batch.time_BL.unsqueeze(1)).abs()
        return (gap_BLL // batch.unit_B.view(-1, 1, 1)).clamp_(max=self.time_max)

    def relations(self, gap_BQL: Tensor) -> TimeGaps:
        """Return the terms that the gaps add to the attention."""
        tables = (self.gap_keys.weight, self.gap_values.weight)
        key_AGd, value_AGd = (table.view(self.time_max + 1, self.num_heads, -1).transpose(0, 1) for table in tables)
        return TimeGaps(gap_BQL, key_AGd, value_AGd)

    def embedding_tables(self) -> Mapping[str, Mapping[str, Tensor]]:
        """Return field -> role -> (rows, D) view."""
        return {
            **super().embedding_tables(),
            "position": {"key": self.position_keys.weight, "value": self.position_values.weight},
            "time_gap": {"key": self.gap_keys.weight, "value": self.gap_values.weight},
        }


@dataclass(frozen=True, slots=True)
class TimeGaps:
    """Terms <q_a, Tk_r> of the scores and sum_b alpha_ab Tv_r of the output, without a vector per pair of positions.

    Each query is multiplied with the keys of all G gaps; each pair gathers the product of its gap. Weights are summed
    per gap before the product with the values. The released code gathers two (B, L, L, D) tensors instead.

    Attributes:
        gap_BQL: gap between each query position and each position.
        key_AGd: key vectors of the gaps.
        value_AGd: value vectors of the gaps.
    """

    gap_BQL: Tensor
    key_AGd: Tensor
    value_AGd: Tensor

    def index(self, heads: int) -> Tensor:
        """Return the gaps, repeated for each head, (B, A, Q, L)."""
        return self.gap_BQL.unsqueeze(1).expand(-1, heads, -1, -1)

    def scores(self, query_BAQd: Tensor) -> Tensor:
        """Return <q_a, Tk_r> for each pair of positions, (B, A, Q, L)."""
        every_BAQG = by_head(query_BAQd, self.key_AGd.transpose(1, 2))
        return every_BAQG.gather(3, self.index(query_BAQd.shape[1]))

    def context(self, weight_BAQL: Tensor) -> Tensor:
        """Return sum_b alpha_ab Tv_r, (B, A, Q, d)."""
        B, A, Q, _ = weight_BAQL.shape
        by_gap_BAQG = weight_BAQL.new_zeros(B, A, Q, self.value_AGd.shape[1])
        return by_head(by_gap_BAQG.scatter_add(3, self.index(A), weight_BAQL), self.value_AGd)


def by_head(x_BAQx: Tensor, matrix_Axy: Tensor) -> Tensor:
    """Return the product with the matrix of each head, (B, A, Q, y).

    One product per head for all samples; broadcasting would copy the matrix for each sample.
    """
    B, A, Q, width = x_BAQx.shape
    product_AXy = torch.bmm(x_BAQx.transpose(0, 1).reshape(A, B * Q, width), matrix_Axy)
    return product_AXy.view(A, B, Q, -1).transpose(0, 1)

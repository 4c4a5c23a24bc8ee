"""TiSASRec: causal self-attention that also knows positions and time gaps.

Li et al., "Time Interval Aware Self-Attention for Sequential Recommendation", WSDM 2020, in the form of the released
code of Wang et al., CIKM 2022 (spec/timirec.md section 9).

Legend: B rows, L history width, Q positions that ask, D embedding width, A heads, d = D/A, T time gaps.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from stemlab.data.batch import SequenceBatch
from stemlab.data.spec import SequenceSizes
from stemlab.errors import StemlabError
from stemlab.models.sequential.base import initialise
from stemlab.models.sequential.one_vector import OneVectorNet
from stemlab.models.sequential.sasrec import check_heads
from stemlab.nn.causal import CausalLayer
from stemlab.nn.interest import position_ids
from stemlab.types import Dropout, NonNegativeInt, PositiveInt


class TiSASRec(OneVectorNet):
    """u = state of the last item; positions and gaps add to keys and values, not to the input.

    score_ab = q_a . (k_b + Pk_b + Tk_r) / sqrt(d) and out_a = sum_b alpha_ab (v_b + Pv_b + Tv_r), with the gap
    r = min(floor(abs(t_a - t_b) / unit of the user), ``time_max``).

    Args:
        sizes: users, items and the longest history.
        embedding_dim: D.
        num_layers: transformer layers; of the last one only the last item's state is computed.
        num_heads: heads of each, a divisor of ``embedding_dim``.
        time_max: largest time gap, in units of the user; longer ones count as this.
        dropout: of the branches of each layer.
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
        initialise(self)

    @classmethod
    def check_settings(cls, settings: Mapping[str, object]) -> None:
        """Raise StemlabError unless the heads divide the width; needs no data, so a config can be checked."""
        check_heads(settings)

    def encode(self, history_BLD: Tensor, batch: SequenceBatch) -> Tensor:
        """Return the users' vectors (B, D).

        Raises:
            StemlabError: the batch has no times.
        """
        place_BL = position_ids(batch.length_B, history_BLD.shape[1])
        extra = (self.position_keys(place_BL), self.position_values(place_BL))
        gap_BLL = self.gaps(batch)
        last_B = batch.length_B - 1
        last_gap_B1L = gap_BLL[torch.arange(len(batch), device=last_B.device), last_B].unsqueeze(1)
        *lower, last = self.layers
        state_BLD = history_BLD
        for layer in lower:
            state_BLD = layer(state_BLD, None, self.relations(gap_BLL), extra)
        user_B1D: Tensor = last(state_BLD, last_B, self.relations(last_gap_B1L), extra)
        return user_B1D.squeeze(1)

    def gaps(self, batch: SequenceBatch) -> Tensor:
        """Return the time gaps of all pairs of positions, (B, L, L) in 0 to ``time_max``."""
        if batch.time_BL is None or batch.unit_B is None:
            raise StemlabError("TiSASRec reads times, but the dataset gives none; set dataset.times=true.")
        gap_BLL = (batch.time_BL.unsqueeze(2) - batch.time_BL.unsqueeze(1)).abs()
        return (gap_BLL // batch.unit_B.view(-1, 1, 1)).clamp_(max=self.time_max)

    def relations(self, gap_BQL: Tensor) -> TimeGaps:
        """Return what the gaps add to attention."""
        tables = (self.gap_keys.weight, self.gap_values.weight)
        key_ATd, value_ATd = (table.view(self.time_max + 1, self.num_heads, -1).transpose(0, 1) for table in tables)
        return TimeGaps(gap_BQL, key_ATd, value_ATd)

    def embedding_tables(self) -> Mapping[str, Mapping[str, Tensor]]:
        """Field -> role -> (rows, D) view."""
        return {
            **super().embedding_tables(),
            "position": {"key": self.position_keys.weight, "value": self.position_values.weight},
            "time_gap": {"key": self.gap_keys.weight, "value": self.gap_values.weight},
        }


@dataclass(frozen=True, slots=True)
class TimeGaps:
    """Terms of time gaps in attention, without a vector a pair of positions.

    A query meets all T gaps at once, (B, A, Q, T), of which each pair takes its own; weights are summed a gap before
    they meet the values. The published form gathers (B, L, L, D) twice instead.

    Attributes:
        gap_BQL: gap of each asking position to each position.
        key_ATd: keys of the gaps.
        value_ATd: values of the gaps.
    """

    gap_BQL: Tensor
    key_ATd: Tensor
    value_ATd: Tensor

    def index(self, heads: int) -> Tensor:
        """Return the gaps for every head, (B, A, Q, L)."""
        return self.gap_BQL.unsqueeze(1).expand(-1, heads, -1, -1)

    def scores(self, query_BAQd: Tensor) -> Tensor:
        """Return each pair's product of query and gap key, (B, A, Q, L)."""
        every_BAQT = by_head(query_BAQd, self.key_ATd.transpose(1, 2))
        return every_BAQT.gather(3, self.index(query_BAQd.shape[1]))

    def context(self, weight_BAQL: Tensor) -> Tensor:
        """Return the weighted sums of gap values, (B, A, Q, d)."""
        B, A, Q, _ = weight_BAQL.shape
        by_gap_BAQT = weight_BAQL.new_zeros(B, A, Q, self.value_ATd.shape[1])
        return by_head(by_gap_BAQT.scatter_add(3, self.index(A), weight_BAQL), self.value_ATd)


def by_head(x_BAQx: Tensor, matrix_Axy: Tensor) -> Tensor:
    """Return each head's product with its matrix, (B, A, Q, y).

    One product a head over all rows; broadcasting would copy the matrix for every row.
    """
    B, A, Q, width = x_BAQx.shape
    product_AXy = torch.bmm(x_BAQx.transpose(0, 1).reshape(A, B * Q, width), matrix_Axy)
    return product_AXy.view(A, B, Q, -1).transpose(0, 1)

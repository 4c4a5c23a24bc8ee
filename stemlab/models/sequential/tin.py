"""TIN: target attention and target-aware representation over behaviours that know their place.

Zhou et al., "Temporal Interest Network for User Response Prediction", WWW 2024, arXiv 2308.08487, section 4 (read by
way of spec/recscope.md section 3.3): e_i = item and category + p_(position), v = target + p_0,
u = sum_i softmax_i(<e_i, v> / sqrt(D)) (e_i * v).

Legend: B rows, N candidates, L history width, D width of an item's vector.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

from stemlab.data.batch import SequenceBatch
from stemlab.data.spec import SequenceSizes
from stemlab.errors import StemlabError
from stemlab.models.sequential.target import Attended, TargetNet, initialise
from stemlab.nn.interest import position_ids
from stemlab.nn.mlp import Activation
from stemlab.nn.target_attention import DotAttention, TemporalEncoding, age_buckets, attention_weights
from stemlab.types import NonNegativeInt, PositiveInt, Widths

Encoding = Literal["position", "time", "both"]


class TIN(TargetNet):
    """Temporal encoding, target-aware attention, target-aware representation, then a network of [u, v].

    Args:
        sizes: users, items, categories, longest history.
        embedding_dim: width of an item's embedding.
        category_dim: width of a category's; 0 leaves categories out.
        hidden_units: widths of the network behind attention.
        hidden_activations: after each of them.
        encoding: what a behaviour knows of its time: the target-relative ``position`` (1 is the newest, the target is
            0), a bucket of the ``time`` between it and the newest one, or ``both``.
        time_buckets: number of buckets, each twice as long as the one before; read by ``time`` and ``both``.
        tr: ``paper`` multiplies every behaviour by the target before they are summed; ``post`` is the released code:
            behaviours are summed as they are, normalised, put through a linear, and then multiplied.
        item_bias: one trained number an item is added to its scores.
    """

    def __init__(
        self,
        sizes: SequenceSizes,
        *,
        hidden_units: Widths,
        embedding_dim: PositiveInt = 64,
        category_dim: NonNegativeInt = 64,
        hidden_activations: Activation = "sigmoid",
        encoding: Encoding = "position",
        time_buckets: PositiveInt = 32,
        tr: Literal["paper", "post"] = "paper",
        item_bias: bool = True,
    ) -> None:
        features = 2 if tr == "paper" else 3
        super().__init__(sizes, embedding_dim, category_dim, features, hidden_units, hidden_activations, item_bias)
        self.tr, self.time_buckets = tr, time_buckets
        self.attention = DotAttention()
        self.encoding = TemporalEncoding(
            None if encoding == "time" else sizes.history_max,
            None if encoding == "position" else time_buckets,
            self.width,
        )
        if tr == "post":
            self.pooled = nn.Sequential(nn.BatchNorm1d(self.width), nn.Linear(self.width, self.width))
            self.norm = nn.BatchNorm1d(3 * self.width)
        initialise(self)

    def behaviours(self, batch: SequenceBatch) -> Tensor:
        """Return the encoded behaviours (B, L, D).

        Raises:
            StemlabError: ages are read, and the batch has no times.
        """
        bucket_BL = None
        if self.encoding.ages is not None:
            if batch.time_BL is None:
                raise StemlabError("TIN reads times, but the dataset gives none; set dataset.times=true.")
            bucket_BL = age_buckets(batch.time_BL, batch.length_B, self.time_buckets)
        place_BL = position_ids(batch.length_B, batch.history_BL.shape[1])
        encoding_BLD: Tensor = self.encoding(place_BL, bucket_BL)
        return self.item_rows(batch.history_BL) + encoding_BLD

    def targets(self, item_BN: Tensor) -> Tensor:
        """Return the candidates (B, N, D), encoded as position 0."""
        return self.item_rows(item_BN) + self.encoding.target()

    def features(self, behaviour_BLD: Tensor, target_BND: Tensor, history_BL: Tensor) -> Tensor:
        """Return [u, v] (B, N, 2 D), or [u, v, u * v] of the released code."""
        weight_BNL = attention_weights(self.attention(behaviour_BLD, target_BND), history_BL)
        summed_BND = torch.bmm(weight_BNL, behaviour_BLD)
        if self.tr == "paper":  # the target is the same for all behaviours, so it may be multiplied after the sum
            return torch.cat([summed_BND * target_BND, target_BND], dim=2)
        user_BND = self.pooled(summed_BND.flatten(0, 1)).view_as(summed_BND)
        both_BNX = torch.cat([user_BND, target_BND, user_BND * target_BND], dim=2)
        normed_BNX: Tensor = self.norm(both_BNX.flatten(0, 1)).view_as(both_BNX)
        return normed_BNX

    def target_attention(self) -> Attended | None:
        """Return the parts of categories and of positions; ages have no place in the formula."""
        if self.categories is None or self.encoding.positions is None:
            return None
        position_PD = self.encoding.positions.weight
        return "tin", self.categories.weight[1:], position_PD[:, -self.categories.embedding_dim :]

    def cells(self) -> int:
        """Return the numbers that scoring one candidate holds at once."""
        return 8 * self.width + 3 * self.sizes.history_max

    def embedding_tables(self) -> dict[str, dict[str, Tensor]]:
        """Field -> role -> (rows, D) view."""
        encodings = {name: {"shared": table} for name, table in self.encoding.tables().items()}
        return {**super().embedding_tables(), **encodings}

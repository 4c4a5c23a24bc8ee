"""TIN: target attention and target-aware representation over temporally encoded history items.

Zhou et al., "Temporal Interest Network for User Response Prediction", WWW 2024, arXiv 2308.08487, section 4
(docs/methods/sequential.md#tin).

Legend: B samples, N candidates, L history width, D width of an item vector, X input width of the MLP.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

from stemlab.data.batch import SequenceBatch
from stemlab.data.spec import SequenceSizes
from stemlab.errors import StemlabError
from stemlab.models.sequential.target import CorrelationInputs, TargetNet
from stemlab.nn.interest import position_ids
from stemlab.nn.mlp import Activation
from stemlab.nn.norm import FixedNorm
from stemlab.nn.target_attention import DotAttention, TemporalEncoding, age_buckets, attend
from stemlab.types import NonNegativeInt, PositiveInt, Widths

TemporalEncodingKind = Literal["position", "time", "both"]


class TIN(TargetNet):
    """e_j = x_j + p_j, v = x_target + p_0, u = sum_j softmax_j(<e_j, v> / sqrt(D)) (e_j * v).

    logit = MLP([u; v]) + bias; x are item vectors, p encodings of the position or age relative to the target.

    Args:
        sizes: number of users, items and categories, longest history.
        embedding_dim: width of an item embedding.
        category_dim: width of a category embedding; 0 leaves categories out.
        hidden_units: hidden widths of the MLP.
        hidden_activations: activation after each hidden layer.
        encoding: p is a vector of the ``position`` (newest item 1, target 0), of the bucketed ``time`` since the newest
            item, or the sum of ``both``.
        time_buckets: number of time buckets, each twice as long as the one before; used by ``time`` and ``both``.
        tr: ``paper`` is the equation above. ``post`` is the released code: u = Linear(N(sum_j alpha_j e_j)), and the
            MLP reads N([u; v; u * v]). N is its batch normalisation, a fixed affine map (``FixedNorm``) because the
            flag ``training`` is never set there.
        item_bias: add one trained bias per item to the logit.
    """

    def __init__(
        self,
        sizes: SequenceSizes,
        *,
        hidden_units: Widths,
        embedding_dim: PositiveInt = 64,
        category_dim: NonNegativeInt = 64,
        hidden_activations: Activation = "sigmoid",
        encoding: TemporalEncodingKind = "position",
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
            self.pooled = nn.Sequential(FixedNorm(self.width), nn.Linear(self.width, self.width))
            self.norm = FixedNorm(3 * self.width)
        self.initialise()

    def behaviours(self, batch: SequenceBatch) -> Tensor:
        """Return the encoded items of the history (B, L, D).

        Raises:
            StemlabError: ``encoding`` reads times and the batch has none.
        """
        bucket_BL = None
        if self.encoding.ages is not None:
            if batch.time_BL is None:
                raise StemlabError("TIN needs timestamps, but the batch has none: set dataset.times=true.")
            bucket_BL = age_buckets(batch.time_BL, batch.length_B, self.time_buckets)
        position_BL = position_ids(batch.length_B, batch.history_BL.shape[1])
        encoding_BLD: Tensor = self.encoding(position_BL, bucket_BL)
        return self.embed_items(batch.history_BL) + encoding_BLD

    def targets(self, item_BN: Tensor) -> Tensor:
        """Return the encoded candidates (B, N, D), encoded as position 0."""
        return self.embed_items(item_BN) + self.encoding.target()

    def features(self, behaviour_BLD: Tensor, target_BND: Tensor, history_BL: Tensor) -> Tensor:
        """Return [u; v] (B, N, 2 D), or with ``tr=post`` [u; v; u * v] (B, N, 3 D)."""
        paper = self.tr == "paper"
        summed_BND = attend(self.attention, behaviour_BLD, target_BND, history_BL, target_aware=paper)
        if paper:
            return torch.cat([summed_BND, target_BND], dim=2)
        user_BND = self.pooled(summed_BND.flatten(0, 1)).view_as(summed_BND)
        both_BNX = torch.cat([user_BND, target_BND, user_BND * target_BND], dim=2)
        normed_BNX: Tensor = self.norm(both_BNX.flatten(0, 1)).view_as(both_BNX)
        return normed_BNX

    def target_attention(self) -> CorrelationInputs | None:
        """Return category embeddings and position encodings; the formula has no term for ages."""
        if self.categories is None or self.encoding.positions is None:
            return None
        position_PD = self.encoding.positions.weight
        return "tin", self.categories.weight[1:], position_PD[:, -self.categories.embedding_dim :]

    def floats_per_candidate(self) -> int:
        """Return the number of intermediate values for one candidate of one user."""
        return 8 * self.width + 3 * self.sizes.history_max

    def embedding_tables(self) -> dict[str, dict[str, Tensor]]:
        """Return field -> role -> (rows, D) view."""
        encodings = {name: {"shared": table} for name, table in self.encoding.tables().items()}
        return {**super().embedding_tables(), **encodings}

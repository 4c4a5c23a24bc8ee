"""DIN: the candidate weights the items of the history; items have no position or time encoding.

Zhou et al., "Deep Interest Network for Click-Through Rate Prediction", KDD 2018 (docs/methods/sequential.md#din), and
its variant with target-aware representation of arXiv 2308.08487 (docs/methods/sequential.md#din_plus). Where the code
released with TIN differs from the KDD paper, this follows the code: softmax over the history, sigmoid activations.

Legend: B samples, N candidates, L history width, D width of an item vector, X input width of the MLP.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from stemlab.data.batch import SequenceBatch
from stemlab.data.spec import SequenceSizes
from stemlab.models.sequential.target import CorrelationInputs, TargetNet
from stemlab.nn.mlp import Activation
from stemlab.nn.target_attention import ActivationUnit, DotAttention, attend
from stemlab.types import NonNegativeInt, PositiveInt, Widths


class DIN(TargetNet):
    """u = sum_j alpha_j e_j, or with ``target_aware`` u = sum_j alpha_j (e_j * v); logit = MLP([u; v]) + bias.

    alpha = softmax_j(a(e_j, v) / sqrt(D)) over the history items e_j, for the candidate v.

    Args:
        sizes: number of users, items and categories, longest history.
        embedding_dim: width of an item embedding.
        category_dim: width of a category embedding; 0 leaves categories out.
        attention: a is ``unit``, an MLP of [e; v; e - v; e * v] (released code), or ``dot``, the dot product, which the
            formula of learned correlation assumes.
        attention_units: hidden widths of that MLP; used by ``unit`` only.
        target_aware: multiply the history items by the candidate (``din_plus``).
        hidden_units: hidden widths of the MLP.
        hidden_activations: activation after each hidden layer of both MLPs.
        item_bias: add one trained bias per item to the logit.
    """

    def __init__(
        self,
        sizes: SequenceSizes,
        *,
        attention_units: list[PositiveInt],
        hidden_units: Widths,
        embedding_dim: PositiveInt = 64,
        category_dim: NonNegativeInt = 64,
        attention: Literal["unit", "dot"] = "unit",
        target_aware: bool = False,
        hidden_activations: Activation = "sigmoid",
        item_bias: bool = True,
    ) -> None:
        super().__init__(sizes, embedding_dim, category_dim, 2, hidden_units, hidden_activations, item_bias)
        self.target_aware = target_aware
        self.attention = (
            DotAttention() if attention == "dot" else ActivationUnit(self.width, attention_units, hidden_activations)
        )
        self.initialise()

    def behaviours(self, batch: SequenceBatch) -> Tensor:
        """Return the items of the history (B, L, D)."""
        return self.embed_items(batch.history_BL)

    def targets(self, item_BN: Tensor) -> Tensor:
        """Return the encoded candidates (B, N, D)."""
        return self.embed_items(item_BN)

    def features(self, behaviour_BLD: Tensor, target_BND: Tensor, history_BL: Tensor) -> Tensor:
        """Return [u; v], (B, N, 2 D)."""
        user_BND = attend(self.attention, behaviour_BLD, target_BND, history_BL, target_aware=self.target_aware)
        return torch.cat([user_BND, target_BND], dim=2)

    def target_attention(self) -> CorrelationInputs | None:
        """Return the category embeddings; the formula uses their dot product, as ``attention=dot`` does."""
        if self.categories is None:
            return None
        return "din_plus" if self.target_aware else "din", self.categories.weight[1:], None

    def floats_per_candidate(self) -> int:
        """Return the number of intermediate values for one candidate of one user."""
        return 8 * self.width + self.sizes.history_max * (2 + self.attention.cells(self.width))

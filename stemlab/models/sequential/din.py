"""DIN: behaviours are weighted by the candidate; without any encoding of time.

Zhou et al., "Deep Interest Network for Click-Through Rate Prediction", KDD 2018, and its variant with target-aware
representation of arXiv 2308.08487 (spec/recscope.md section 3.2: ``din_plus``). Where it differs from the KDD paper,
it follows the code released with TIN: weights are a softmax over the history, activations are sigmoids.

Legend: B rows, N candidates, L history width, D width of an item's vector.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from stemlab.data.batch import SequenceBatch
from stemlab.data.spec import SequenceSizes
from stemlab.models.sequential.target import Attended, TargetNet, initialise
from stemlab.nn.mlp import Activation
from stemlab.nn.target_attention import ActivationUnit, DotAttention, attention_weights
from stemlab.types import NonNegativeInt, PositiveInt, Widths


class DIN(TargetNet):
    """u = sum_i alpha_i e_i, or with ``target_aware`` sum_i alpha_i (e_i * v); then a network of [u, v].

    Args:
        sizes: users, items, categories, longest history.
        embedding_dim: width of an item's embedding.
        category_dim: width of a category's; 0 leaves categories out.
        attention: ``unit`` is the published network of both vectors, their difference and their product, ``dot``
            their scaled product, of which the published formula of learnt correlation speaks.
        attention_units: hidden widths of that network; read by ``unit``.
        target_aware: whether the values are multiplied by the target.
        hidden_units: widths of the network behind attention.
        hidden_activations: after each hidden layer of both.
        item_bias: one trained number an item is added to its scores.
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
        initialise(self)

    def behaviours(self, batch: SequenceBatch) -> Tensor:
        """Return the behaviours (B, L, D)."""
        return self.item_rows(batch.history_BL)

    def targets(self, item_BN: Tensor) -> Tensor:
        """Return the candidates (B, N, D)."""
        return self.item_rows(item_BN)

    def features(self, behaviour_BLD: Tensor, target_BND: Tensor, history_BL: Tensor) -> Tensor:
        """Return [u, v], (B, N, 2 D)."""
        weight_BNL = attention_weights(self.attention(behaviour_BLD, target_BND), history_BL)
        user_BND = torch.bmm(weight_BNL, behaviour_BLD)
        # the target is the same for all behaviours, so it may be multiplied after the sum
        return torch.cat([user_BND * target_BND if self.target_aware else user_BND, target_BND], dim=2)

    def target_attention(self) -> Attended | None:
        """Return the embeddings of categories; the formula takes their dot product, which ``attention=dot`` learns."""
        if self.categories is None:
            return None
        return "din_plus" if self.target_aware else "din", self.categories.weight[1:], None

    def cells(self) -> int:
        """Return the numbers that scoring one candidate holds at once."""
        return 8 * self.width + self.sizes.history_max * (2 + self.attention.cells(self.width))

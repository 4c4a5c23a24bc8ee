"""Correlation learned by a model with target attention (docs/methods/recscope.md#learned-correlation).

Formula of the paper: exp(z) * |r|, with the attention logit z = <e, v>/sqrt(D) of a behaviour e and a target v, and the
value r that the attention sums. The released script differs: it standardises the logits of all cells, without the
square root, and applies one softmax to them.

Legend: C behaviour categories, P positions, D width.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from stemlab.array_types import AnyArray, Float64Array

AttentionKind = Literal["tin", "din", "din_plus"]
Formula = Literal["paper", "script"]


@dataclass(frozen=True)
class CellAttention:
    """Target attention to one behaviour per category and position.

    Attributes:
        logit_CP: dot product of behaviour and target, not divided by sqrt(D).
        value_CP: L2 norm of the attention value.
        width: D.
    """

    logit_CP: Float64Array
    value_CP: Float64Array
    width: int

    def correlation(self, formula: Formula) -> Float64Array:
        """Return the (C, P) learned correlation; only its pattern is meaningful, not its absolute values."""
        if formula == "paper":
            return np.asarray(np.exp(self.logit_CP / np.sqrt(self.width)) * self.value_CP, dtype=np.float64)
        return self.softmax() * self.value_CP

    def softmax(self) -> Float64Array:
        """Return the (C, P) weights of the released script: one softmax over the standardised logits of all cells."""
        spread = self.logit_CP.std()
        standard_CP = (self.logit_CP - self.logit_CP.mean()) / (spread if spread > 0 else 1.0)
        weight_CP = np.exp(standard_CP - standard_CP.max())
        return np.asarray(weight_CP / weight_CP.sum(), dtype=np.float64)


def target_attention(
    kind: AttentionKind, category_CD: AnyArray, target_D: AnyArray, position_PD: AnyArray | None
) -> CellAttention:
    """Return the attention of a target to behaviours of each category at each position.

    Args:
        kind: ``tin`` adds position encodings to behaviour and target, and its attention value is their product.
            ``din`` has no positions, and its value is the behaviour. ``din_plus`` (DIN with target-aware
            representation) has no positions, and its value is the product.
        category_CD: (C, D) embeddings of the behaviour categories.
        target_D: (D,) embedding of the target's category.
        position_PD: (P + 1, D) encodings of positions 0 (target) to P; for ``din`` and ``din_plus`` only P is used.

    Raises:
        ValueError: ``tin`` without position encodings.
    """
    category_CD, target_D = category_CD.astype(np.float64), target_D.astype(np.float64)
    if kind == "tin":
        if position_PD is None:
            raise ValueError("kind='tin' needs position_PD")
        position_PD = position_PD.astype(np.float64)
        behaviour_CPD = category_CD[:, None] + position_PD[None, 1:]
        product_CPD = behaviour_CPD * (target_D + position_PD[0])
        return CellAttention(product_CPD.sum(-1), np.linalg.norm(product_CPD, axis=-1), category_CD.shape[1])
    product_CD = category_CD * target_D
    value_C = np.linalg.norm(product_CD if kind == "din_plus" else category_CD, axis=1)
    positions = 1 if position_PD is None else len(position_PD) - 1
    spread_CP = np.ones((1, positions))
    return CellAttention(product_CD.sum(1)[:, None] * spread_CP, value_C[:, None] * spread_CP, category_CD.shape[1])

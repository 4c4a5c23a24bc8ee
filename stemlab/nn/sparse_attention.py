"""Attention weights from scores: a hard mask or a distribution (docs/methods/mmfi.md#sparse-functions).

Legend: Q slots (pairs or fields).
"""

from __future__ import annotations

from typing import Literal

from entmax import entmax15, sparsemax
from torch import Tensor

Sparse = Literal["tanh_relu", "softmax_t", "sparsemax", "entmax15"]


def sparse_weights(score: Tensor, kind: Sparse, temperature: float = 1.0) -> Tensor:
    """Return the weights (..., Q) of scores y (..., Q).

    Args:
        score: y.
        kind: ``tanh_relu``: ReLU(tanh(y)), in [0, 1), exactly 0 where y <= 0; the sum is not one. ``softmax_t``:
            softmax(y / temperature). ``sparsemax`` (Martins and Astudillo, ICML 2016): the nearest point of the simplex
            to y / temperature. ``entmax15`` (Peters et al., ACL 2019): 1.5-entmax of y / temperature. The last two can
            be exactly 0; the last three sum to one.
        temperature: not used by ``tanh_relu``.
    """
    if kind == "tanh_relu":
        return score.tanh().relu()
    scaled = score if temperature == 1 else score / temperature
    if kind == "softmax_t":
        return scaled.softmax(dim=-1)
    weight: Tensor = (sparsemax if kind == "sparsemax" else entmax15)(scaled, dim=-1)
    return weight

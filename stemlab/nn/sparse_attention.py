"""Weights of an attention from its scores: a hard mask, or a distribution.

Legend: Q what is attended to.
"""

from __future__ import annotations

from typing import Literal

from entmax import entmax15, sparsemax
from torch import Tensor

Sparse = Literal["tanh_relu", "softmax_t", "sparsemax", "entmax15"]


def sparse_weights(score: Tensor, kind: Sparse, temperature: float = 1.0) -> Tensor:
    """Return the weights (..., Q) of scores (..., Q).

    ``tanh_relu``: relu(tanh(y)), in [0, 1), exactly 0 where y <= 0; it does not add up to one. The others do:
    ``softmax_t``: softmax(y / temperature), never exactly 0. ``sparsemax`` (Martins and Astudillo, ICML 2016: the
    nearest point of the simplex) and ``entmax15`` (Peters et al., ACL 2019), both of y / temperature, have exact zeros.
    """
    if kind == "tanh_relu":
        return score.tanh().relu()
    scaled = score if temperature == 1 else score / temperature
    if kind == "softmax_t":
        return scaled.softmax(dim=-1)
    weight: Tensor = (sparsemax if kind == "sparsemax" else entmax15)(scaled, dim=-1)
    return weight

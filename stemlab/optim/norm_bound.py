"""Upper bound of the global gradient norm: far cheaper than the norm, and enough to see that a step clips nothing."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch._utils import _flatten_dense_tensors

_SMALL = 1 << 14
"""Tensors of at most this number of elements are copied into one tensor: a norm per tensor takes longer."""
_ROUNDING = 1.01
"""Factor above the relative error of a norm in any precision (bfloat16: 0.4 %)."""


@torch.no_grad()
def norm_bound(groups: Sequence[dict[str, Any]], further: Sequence[Tensor] = ()) -> float:
    """Return an upper bound of the norm of g + l2 w and further gradients: |g| + l2 |w|, by the triangle inequality.

    Gradients and weights are read once each; the norm also reads both for their product. Rounding is included.

    Args:
        groups: parameter groups with the keys of ``PenalisedOptimizer``.
        further: gradients that no parameter has as its ``grad``.

    Returns:
        The bound; infinity or NaN if a gradient is not finite.
    """
    grads = [grad for group in groups for p in group["params"] if (grad := p.grad) is not None]
    bound = _joint_norm([*grads, *further])
    for group in groups:
        if group["l2"] and not group["rows_only"]:
            bound += group["l2"] * _joint_norm(group["params"])
    return _ROUNDING * bound


def _joint_norm(tensors: list[Tensor]) -> float:
    """Return the norm of all elements of tensors."""
    large = [tensor for tensor in tensors if tensor.numel() > _SMALL]
    small = [tensor for tensor in tensors if tensor.numel() <= _SMALL] if large else tensors
    norms = [*torch._foreach_norm(large)] if large else []
    if small:
        norms.append(torch.linalg.vector_norm(_flatten_dense_tensors(small)))  # type: ignore[no-untyped-call]
    return math.hypot(*(norm.item() for norm in norms))

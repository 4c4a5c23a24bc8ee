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


def is_norm_below(
    limit: float, groups: Sequence[dict[str, Any]], further: Sequence[Tensor], weights: WeightBound
) -> bool:
    """Return whether the norm of g + l2 w and further gradients is certainly below a limit; False for NaN.

    Compares the upper bound |g| + l2 |w| (triangle inequality), rounding included.

    Args:
        limit: the limit.
        groups: parameter groups with the keys of ``PenalisedOptimizer``.
        further: gradients that no parameter has as its ``grad``.
        weights: bound of the weights of ``groups``; they are read if the bound is outdated or too large to decide.
    """
    grads = [grad for group in groups for p in group["params"] if (grad := p.grad) is not None]
    length = _joint_norm([*grads, *further])
    if not _ROUNDING * length < limit:
        return False
    if not (weights.check() and _ROUNDING * (length + weights.value) < limit):
        weights.measure()
    return _ROUNDING * (length + weights.value) < limit


class WeightBound:
    """Upper bound of the sum of l2 |w| over parameter groups, kept from step to step.

    The weights are read once. After a step, the bound grows by the largest change that the step can have made: weights
    are not read in every step. Changes by other code are found by PyTorch's version counters.

    Args:
        groups: parameter groups with the keys of ``PenalisedOptimizer``.
        changes: largest change of a weight in a step, of each group, divided by its learning rate.

    Attributes:
        value: the bound.
    """

    def __init__(self, groups: Sequence[dict[str, Any]], changes: Sequence[float]) -> None:
        self.value, self._version, self._checked = math.inf, -1, False
        penalised = [(g, change) for g, change in zip(groups, changes, strict=True) if g["l2"] and not g["rows_only"]]
        self._groups = [group for group, _ in penalised]
        self._parameters = [p for group in self._groups for p in group["params"]]
        sizes = [sum(p.numel() for p in group["params"]) for group in self._groups]
        self._growth = [g["l2"] * change * math.sqrt(size) for (g, change), size in zip(penalised, sizes, strict=True)]

    def check(self) -> bool:
        """Return whether the weights are those of the last measurement or step."""
        self._checked = self._version == self._versions()
        return self._checked

    @torch.no_grad()
    def measure(self) -> None:
        """Read the weights."""
        self.value = sum(group["l2"] * _joint_norm(group["params"]) for group in self._groups)
        self._version, self._checked = self._versions(), True

    def grow(self) -> None:
        """Adapt the bound after a step of the optimiser; without a check before the step it is outdated."""
        if not self._checked:
            self._version = -1
            return
        for group, growth in zip(self._groups, self._growth, strict=True):
            self.value += growth * float(group["lr"])
        self._version, self._checked = self._versions(), False

    def _versions(self) -> int:
        return sum([p._version for p in self._parameters])


def largest_adam_change(betas: tuple[float, float]) -> float:
    """Return an upper bound of the change of a weight in a step of Adam, divided by the learning rate.

    With s = sum of b2^k g^2 over the earlier steps k, v = (1 - b2) s, and by the Cauchy-Schwarz inequality
    m <= (1 - b1) sqrt(s / (1 - b1^2 / b2)). The bias correction of m divides by at least 1 - b1, that of v increases v.
    """
    b1, b2 = betas
    if not b1 * b1 < b2 < 1:
        return math.inf
    return 1 / math.sqrt((1 - b2) * (1 - b1 * b1 / b2))


def _joint_norm(tensors: Sequence[Tensor]) -> float:
    """Return the norm of all elements of tensors."""
    large = [tensor for tensor in tensors if tensor.numel() > _SMALL]
    small = [tensor for tensor in tensors if tensor.numel() <= _SMALL] if large else tensors
    norms: list[Tensor] = [*torch._foreach_norm(large)] if large else []
    if small:
        norms.append(torch.linalg.vector_norm(_flatten_dense_tensors(small)))  # type: ignore[no-untyped-call]
    return math.hypot(*(norm.item() for norm in norms))

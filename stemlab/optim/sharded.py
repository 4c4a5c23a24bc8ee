"""Global gradient norm where each rank holds a part of some parameters."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, distributed

Groups = list[dict[str, Any]]


class ShardedNorm:
    """Adds the squares of the parts of all ranks; parameters that every rank holds count once.

    Args:
        parts: parameters of which this rank holds a part.
        group: process group of the ranks; None for the default group.
    """

    def __init__(self, parts: Iterable[Tensor], group: distributed.ProcessGroup | None = None) -> None:
        self._parts, self._group = {id(parameter) for parameter in parts}, group

    def host(self, groups: Groups, norm: Callable[[Groups], float]) -> float:
        """Return the global norm. Collective.

        Args:
            groups: parameter groups of the optimiser.
            norm: returns the norm of the parameters of groups on this rank.
        """
        square = torch.tensor(norm(self._select(groups, parts=True)) ** 2, dtype=torch.float64)
        distributed.all_reduce(square, group=self._group)
        return math.sqrt(float(square) + norm(self._select(groups, parts=False)) ** 2)

    def on_device(self, groups: Groups, norm: Callable[[list[Tensor]], Tensor]) -> Tensor:
        """Return the global norm of the gradients, a float64 scalar on their device. Collective.

        Args:
            groups: parameter groups of the optimiser.
            norm: returns the norm of tensors on this rank.
        """
        device = groups[0]["params"][0].device
        squares = [torch.zeros((), dtype=torch.float64, device=device) for _ in range(2)]
        for square, parts in zip(squares, (True, False), strict=True):
            grads = [p.grad for group in self._select(groups, parts) for p in group["params"] if p.grad is not None]
            if grads:
                square += norm(grads).square()
        distributed.all_reduce(squares[0], group=self._group)
        return (squares[0] + squares[1]).sqrt()

    def _select(self, groups: Groups, parts: bool) -> Groups:
        return [
            {**group, "params": [p for p in group["params"] if (id(p) in self._parts) == parts]} for group in groups
        ]

"""Exponential moving average of weights (docs/optimisation.md#average-of-weights)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import get_ema_multi_avg_fn


class WeightAverage:
    """Average of the trainable parameters of a network over its steps; it starts with the weights after the first step.

    ``update`` reads no value on the CPU, so it can be captured in a CUDA graph from the second update on.

    Args:
        net: the network, on its device.
        decay: weight of the average so far in each update.

    Attributes:
        started: whether there was an update.
        swapped: whether the parameters hold the average, and the average the trained weights.
    """

    def __init__(self, net: nn.Module, decay: float) -> None:
        self._weights = {name: parameter for name, parameter in net.named_parameters() if parameter.requires_grad}
        self._average = {name: parameter.detach().clone() for name, parameter in self._weights.items()}
        self._update: Any = get_ema_multi_avg_fn(decay)  # type: ignore[no-untyped-call]
        self.started, self.swapped = False, False

    @torch.no_grad()
    def update(self) -> None:
        """Add the current weights to the average."""
        average, weights = list(self._average.values()), [weight.detach() for weight in self._weights.values()]
        if self.started:
            self._update(average, weights, None)
        else:
            torch._foreach_copy_(average, weights)
        self.started = True

    @torch.no_grad()
    def swap(self) -> None:
        """Exchange the values of the parameters and of the average, in place."""
        for name, weight in self._weights.items():
            values = weight.detach().clone()
            weight.copy_(self._average[name])
            self._average[name].copy_(values)
        self.swapped = not self.swapped

    def with_average(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return a state dictionary of the network with the averages in place of its parameters."""
        if self.swapped:
            return dict(state)
        address = {weight.data_ptr(): name for name, weight in self._weights.items() if weight.numel()}
        return {key: self._average[address[x.data_ptr()]] if x.data_ptr() in address else x for key, x in state.items()}

    def trained(self) -> dict[str, Tensor]:
        """Return the trained weights by name."""
        return dict(self._average) if self.swapped else {name: w.detach() for name, w in self._weights.items()}

    @torch.no_grad()
    def load(self, trained: Mapping[str, Tensor]) -> None:
        """Set the parameters to ``trained`` weights; their values before, of a checkpoint, become the average."""
        for name, weight in self._weights.items():
            self._average[name].copy_(weight)
            weight.copy_(trained[name])
        self.started, self.swapped = True, False

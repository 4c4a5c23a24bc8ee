"""Means of the training losses over a logging interval."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor


class LossMeans:
    """Sums of the losses of the steps since the last reset, on the device of the losses.

    Attributes:
        steps: number of steps in the sums.
    """

    def __init__(self) -> None:
        self.steps = 0
        self._names: tuple[str, ...] = ()
        self._sums_L: Tensor | None = None

    def add(self, losses: Mapping[str, Tensor]) -> None:
        """Add the losses of a step: name -> scalar; the names are the same in every step."""
        step_L = torch.stack([loss.detach().float() for loss in losses.values()])
        self._names = tuple(losses)
        self._sums_L = step_L if self._sums_L is None else self._sums_L.to(step_L.device) + step_L
        self.steps += 1

    def means(self) -> dict[str, Tensor]:
        """Return name -> mean over the steps, a scalar tensor; empty without steps."""
        if self._sums_L is None:
            return {}
        return dict(zip(self._names, (self._sums_L / self.steps).unbind(), strict=True))

    def reset(self) -> None:
        """Start a new interval."""
        self.steps, self._sums_L = 0, None

    def state_dict(self) -> dict[str, Any]:
        """Return the sums as plain values and tensors for a checkpoint."""
        return {"steps": self.steps, "names": list(self._names), "sums": self._sums_L}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore the values of ``state_dict``."""
        self.steps, self._names, self._sums_L = state["steps"], tuple(state["names"]), state["sums"]

"""Means of the training losses over a logging interval."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from stemlab.array_types import AnyArray

_MOST_STEPS = 1024
"""Steps whose losses are kept before they are summed."""


class LossMeans:
    """Sums of the losses of the steps since the last reset, float32, on the device of the losses.

    On the CPU the losses are kept as numbers, and summed in the order of the steps when the sums are needed: adding
    in every step costs a small network about one percent of its time.

    Attributes:
        steps: number of steps in the sums.
    """

    def __init__(self) -> None:
        self.steps = 0
        self._names: tuple[str, ...] = ()
        self._sums_L: Tensor | AnyArray | None = None
        self._latest: list[list[float]] = []  # losses of steps on the CPU that are not in the sums yet

    def add(self, losses: Mapping[str, Tensor]) -> None:
        """Add the losses of a step: name -> scalar; the names are the same in every step."""
        self._names = tuple(losses)
        self.steps += 1
        if next(iter(losses.values())).is_cpu:
            self._latest.append([loss.item() for loss in losses.values()])
            if len(self._latest) == _MOST_STEPS:
                self._sum()
            return
        step_L = torch.stack([loss.detach().float() for loss in losses.values()])
        sums_L = self._sum()
        self._sums_L = step_L if sums_L is None else _tensor(sums_L).to(step_L.device) + step_L

    def _sum(self) -> Tensor | AnyArray | None:
        """Return the sums of all steps, float32."""
        if self._latest:
            latest_SL = np.array(self._latest, dtype=np.float32)
            self._latest = []
            if self._sums_L is not None:
                latest_SL[0] += _array(self._sums_L)
            self._sums_L = np.add.accumulate(latest_SL, axis=0)[-1]  # rounded in every step, unlike a sum
        return self._sums_L

    def means(self) -> dict[str, Tensor]:
        """Return name -> mean over the steps, a scalar tensor; empty without steps."""
        sums_L = self._sum()
        if sums_L is None:
            return {}
        return dict(zip(self._names, (_tensor(sums_L) / self.steps).unbind(), strict=True))

    def reset(self) -> None:
        """Start a new interval."""
        self.steps, self._sums_L, self._latest = 0, None, []

    def state_dict(self) -> dict[str, Any]:
        """Return the sums as plain values and tensors for a checkpoint."""
        sums_L = self._sum()
        return {"steps": self.steps, "names": list(self._names), "sums": None if sums_L is None else _tensor(sums_L)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore the values of ``state_dict``."""
        self.reset()
        self.steps, self._names, self._sums_L = state["steps"], tuple(state["names"]), state["sums"]


def _tensor(sums_L: Tensor | AnyArray) -> Tensor:
    return sums_L if isinstance(sums_L, Tensor) else torch.from_numpy(sums_L)


def _array(sums_L: Tensor | AnyArray) -> AnyArray:
    return sums_L.cpu().numpy() if isinstance(sums_L, Tensor) else sums_L

"""Means of the training losses over a logging interval."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from stemlab.array_types import AnyArray


class LossMeans:
    """Sums of the losses of the steps since the last reset, float32, on the device of the losses.

    On the CPU the sums are numbers, not tensors: for small networks, five operations per step cost a percent of it.

    Attributes:
        steps: number of steps in the sums.
    """

    def __init__(self) -> None:
        self.steps = 0
        self._names: tuple[str, ...] = ()
        self._sums_L: Tensor | AnyArray | None = None

    def add(self, losses: Mapping[str, Tensor]) -> None:
        """Add the losses of a step: name -> scalar; the names are the same in every step."""
        step_L: Any
        if next(iter(losses.values())).is_cpu:
            step_L = np.array([loss.item() for loss in losses.values()], dtype=np.float32)
        else:
            step_L = torch.stack([loss.detach().float() for loss in losses.values()])
        if self._sums_L is None:
            self._sums_L = step_L
        else:
            self._sums_L = _beside(self._sums_L, step_L) + step_L
        self._names = tuple(losses)
        self.steps += 1

    def means(self) -> dict[str, Tensor]:
        """Return name -> mean over the steps, a scalar tensor; empty without steps."""
        if self._sums_L is None:
            return {}
        return dict(zip(self._names, (_tensor(self._sums_L) / self.steps).unbind(), strict=True))

    def reset(self) -> None:
        """Start a new interval."""
        self.steps, self._sums_L = 0, None

    def state_dict(self) -> dict[str, Any]:
        """Return the sums as plain values and tensors for a checkpoint."""
        sums_L = None if self._sums_L is None else _tensor(self._sums_L)
        return {"steps": self.steps, "names": list(self._names), "sums": sums_L}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore the values of ``state_dict``."""
        self.steps, self._names, self._sums_L = state["steps"], tuple(state["names"]), state["sums"]


def _tensor(sums_L: Tensor | AnyArray) -> Tensor:
    return sums_L if isinstance(sums_L, Tensor) else torch.from_numpy(sums_L)


def _beside(sums_L: Tensor | AnyArray, step_L: Tensor | AnyArray) -> Any:
    """Return sums, which may be those of a checkpoint, in the form and on the device of the losses of a step."""
    if isinstance(step_L, Tensor):
        return _tensor(sums_L).to(step_L.device)
    return sums_L.cpu().numpy() if isinstance(sums_L, Tensor) else sums_L

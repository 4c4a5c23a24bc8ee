"""Improvement rule of the released code of STEM: value >= best + min_delta (docs/methods/stem.md#early-stopping)."""

from __future__ import annotations

import math
from typing import Any

from stemlab.types import Mode


class Improvement:
    """Best value of a metric so far.

    Args:
        mode: whether larger or smaller is better.
        min_delta: required gain over the best value.

    Attributes:
        best: best value; None before the first defined value.
        epoch: epoch of the best value; -1 before the first defined value.
    """

    def __init__(self, mode: Mode = "max", min_delta: float = 0.0) -> None:
        self.sign = 1.0 if mode == "max" else -1.0
        self.min_delta = min_delta
        self.best: float | None = None
        self.epoch = -1

    def update(self, value: float, epoch: int) -> bool | None:
        """Update with the value of an epoch; return whether it improved, or None if the value is undefined (NaN)."""
        if math.isnan(value):
            return None
        if self.best is not None and not self.sign * value >= self.sign * self.best + self.min_delta:
            return False
        self.best, self.epoch = float(value), int(epoch)
        return True

    def state_dict(self) -> dict[str, Any]:
        """Return plain values for a checkpoint."""
        return {"best": self.best, "epoch": self.epoch}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore the values of ``state_dict``."""
        self.best, self.epoch = state["best"], state["epoch"]

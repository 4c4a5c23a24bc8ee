"""The published rule for "this epoch was better": value >= best + min_delta (spec: STEM repository, BaseModel)."""

from __future__ import annotations

import math
from typing import Any

from stemlab.types import Mode


class Improvement:
    """The best value of a metric so far.

    Args:
        mode: whether larger or smaller is better.
        min_delta: what a value must gain over the best one to count.
    """

    def __init__(self, mode: Mode = "max", min_delta: float = 0.0) -> None:
        self.sign = 1.0 if mode == "max" else -1.0
        self.min_delta = min_delta
        self.best: float | None = None
        self.epoch = -1

    def update(self, value: float, epoch: int) -> bool | None:
        """Take the value of an epoch; return whether it improved, or None where the value is undefined (NaN)."""
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
        """Go on from ``state_dict``."""
        self.best, self.epoch = state["best"], state["epoch"]

"""Early stopping by the published rules: patience (multi-task models), window and patience (ranking models)."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Any

from pytorch_lightning import Callback, LightningModule, Trainer
from pytorch_lightning.utilities import rank_zero_info

from stemlab.callbacks.improvement import Improvement
from stemlab.lightning.metric_values import metric_value
from stemlab.types import Mode


class EarlyStop(Callback):
    """Stop after ``patience`` epochs without improvement.

    An epoch whose metric is undefined (a validation split with one class) is not counted. The state survives resuming:
    a run that had stopped stops again at once, unless it is resumed with more patience.

    Args:
        monitor: metric name, ``split/metric[/task]``.
        mode: whether larger or smaller is better.
        patience: epochs without improvement that are one too many; 1 stops at the first (published).
        min_delta: what counts as an improvement: value >= best + min_delta.
    """

    def __init__(self, monitor: str, mode: Mode, patience: int, min_delta: float) -> None:
        self.monitor, self.patience = monitor, patience
        self.improvement = Improvement(mode, min_delta)
        self.waited = 0

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Stop a resumed run that had already stopped."""
        if self.waited >= self.patience:
            rank_zero_info(f"{self.monitor} had not improved for {self.waited} epochs: nothing to resume.")
            trainer.should_stop = True

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Count epochs without improvement."""
        improved = self.improvement.update(metric_value(pl_module, self.monitor), trainer.current_epoch)
        if improved is not None:
            self.waited = 0 if improved else self.waited + 1
        if self.waited >= self.patience:
            trainer.should_stop = True

    def state_dict(self) -> dict[str, Any]:
        """Return plain values for the checkpoint."""
        return {"waited": self.waited, **self.improvement.state_dict()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from a checkpoint."""
        self.waited = state_dict["waited"]
        self.improvement.load_state_dict(state_dict)


WINDOW_WARMUP_EPOCHS = 20
"""The window rule is silent for so many epochs (published constant)."""


class WindowStop(Callback):
    """Stop when the metric only falls or stays for a while, or when its best value has become old.

    Published for ranking models (spec/timirec.md section 7). With n epochs run, training stops when

    * n > 20 and none of the last ``window`` values is larger than the one before it, or
    * the best value, where several epochs share it the first of them, is followed by ``patience`` others.

    An epoch whose metric is undefined is not counted. The state survives resuming: a run that had stopped stops again
    at once, unless it is resumed with other limits.

    Args:
        monitor: metric name, ``split/metric``.
        mode: whether larger or smaller is better.
        window: how many values must fall or stay.
        patience: epochs after the first best one that end the training.
    """

    def __init__(self, monitor: str, mode: Mode, window: int, patience: int) -> None:
        self.monitor, self.window, self.patience = monitor, window, patience
        self.sign = 1.0 if mode == "max" else -1.0
        self.values: list[float] = []

    def reason(self) -> str | None:
        """Return why training ends now, or None."""
        gains = [self.sign * value for value in self.values]
        if len(gains) > WINDOW_WARMUP_EPOCHS and all(a >= b for a, b in pairwise(gains[-self.window :])):
            return f"{self.monitor} has not risen once in the last {self.window} epochs"
        since = len(gains) - gains.index(max(gains)) - 1 if gains else 0
        if since >= self.patience:
            return f"{self.monitor} was best {since} epochs ago"
        return None

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Stop a resumed run that had already stopped."""
        if reason := self.reason():
            rank_zero_info(f"{reason}: nothing to resume.")
            trainer.should_stop = True

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Take the value of an epoch."""
        value = metric_value(pl_module, self.monitor)
        if not math.isnan(value):
            self.values.append(value)
        if self.reason():
            trainer.should_stop = True

    def state_dict(self) -> dict[str, Any]:
        """Return plain values for the checkpoint."""
        return {"values": list(self.values)}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from a checkpoint."""
        self.values = list(state_dict["values"])

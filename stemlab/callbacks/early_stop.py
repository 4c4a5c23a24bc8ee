"""Early stopping: patience (multi-task models), window and patience (sequential models)."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Any

from pytorch_lightning import LightningModule, Trainer
from pytorch_lightning.utilities import rank_zero_info

from stemlab.callbacks.improvement import Improvement
from stemlab.lightning.interval_loop import AfterValidation
from stemlab.lightning.metric_values import metric_value
from stemlab.types import Mode


class EarlyStop(AfterValidation):
    """Stop after ``patience`` epochs without improvement (docs/methods/stem.md#early-stopping).

    With ``trainer.val_check_interval`` validations are counted instead of epochs. Those with an undefined metric (one
    class in the validation split) are left out. The state is part of the checkpoint: resuming a stopped run stops again
    at once, unless ``patience`` is larger.

    Args:
        monitor: metric name, ``split/metric[/task]``.
        mode: whether larger or smaller is better.
        patience: number of epochs without improvement; 1 stops at the first such epoch (released code).
        min_delta: an epoch improves if value >= best + min_delta (with the sign of ``mode``).
    """

    def __init__(self, monitor: str, mode: Mode, patience: int, min_delta: float) -> None:
        self.monitor, self.patience = monitor, patience
        self.improvement = Improvement(mode, min_delta)
        self.waited = 0

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Stop at once if the resumed run had already stopped."""
        if self.waited >= self.patience:
            rank_zero_info(f"nothing to resume: {self.monitor} has not improved for {self.waited} epochs.")
            trainer.should_stop = True

    def on_interval_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Count validations without improvement."""
        improved = self.improvement.update(metric_value(pl_module, self.monitor), trainer.current_epoch)
        if improved is not None:
            self.waited = 0 if improved else self.waited + 1
        if self.waited >= self.patience:
            trainer.should_stop = True

    def state_dict(self) -> dict[str, Any]:
        """Return plain values for the checkpoint."""
        return {"waited": self.waited, **self.improvement.state_dict()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the state of a checkpoint."""
        self.waited = state_dict["waited"]
        self.improvement.load_state_dict(state_dict)


WINDOW_WARMUP_EPOCHS = 20
"""The window rule is inactive in these first epochs (constant of the released code)."""


class WindowStop(AfterValidation):
    """Stop when the metric has not increased within a window, or its best value is ``patience`` epochs old.

    The rule of the released code of TiMiRec (docs/methods/timirec.md#early-stopping). After n epochs, training stops if

    * n > 20 and the last ``window`` values never improve from one to the next (``window - 1`` comparisons), or
    * ``patience`` epochs have passed since the first epoch with the best value.

    With ``trainer.val_check_interval`` it counts validations instead of epochs. Those with an undefined metric are not
    counted. The state is part of the checkpoint: resuming a stopped run stops again at once, unless the limits are
    larger.

    Args:
        monitor: metric name, ``split/metric``.
        mode: whether larger or smaller is better.
        window: number of last values that are compared.
        patience: number of epochs after the first epoch with the best value.
    """

    def __init__(self, monitor: str, mode: Mode, window: int, patience: int) -> None:
        self.monitor, self.window, self.patience = monitor, window, patience
        self.sign = 1.0 if mode == "max" else -1.0
        self.values: list[float] = []

    def reason(self) -> str | None:
        """Return the reason to stop now, or None."""
        gains = [self.sign * value for value in self.values]
        if len(gains) > WINDOW_WARMUP_EPOCHS and all(a >= b for a, b in pairwise(gains[-self.window :])):
            return f"{self.monitor} has not improved from one epoch to the next in the last {self.window} epochs"
        since = len(gains) - gains.index(max(gains)) - 1 if gains else 0
        if since >= self.patience:
            return f"{self.monitor} was best {since} epochs ago"
        return None

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Stop at once if the resumed run had already stopped."""
        if reason := self.reason():
            rank_zero_info(f"nothing to resume: {reason}.")
            trainer.should_stop = True

    def on_interval_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Append the value of the last validation and decide whether to stop."""
        value = metric_value(pl_module, self.monitor)
        if not math.isnan(value):
            self.values.append(value)
        if self.reason():
            trainer.should_stop = True

    def state_dict(self) -> dict[str, Any]:
        """Return plain values for the checkpoint."""
        return {"values": list(self.values)}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the state of a checkpoint."""
        self.values = list(state_dict["values"])

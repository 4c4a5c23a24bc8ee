"""Early stopping by the published rule."""

from __future__ import annotations

from typing import Any

from pytorch_lightning import Callback, LightningModule, Trainer
from pytorch_lightning.utilities import rank_zero_info

from stemlab.callbacks.improvement import Improvement, Mode
from stemlab.lightning.values import metric_value


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

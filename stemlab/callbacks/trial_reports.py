"""Report the epochs of a trial to its sweep, which may end it early (docs/sweeps.md#pruning)."""

from __future__ import annotations

import math

from pytorch_lightning import Callback, LightningModule, Trainer

from stemlab.config.trial_channel import EpochReport, TrialChannel
from stemlab.lightning.metric_values import metric_value


class TrialReports(Callback):
    """After each epoch, send the monitored value to the sweep and wait for its answer.

    A trial that is ended stops as by early stopping: the checkpoint of its last epoch is written.

    Args:
        channel: pipes to the sweep; only the first rank uses them.
        monitor: validation metric that is reported.

    Attributes:
        pruned: whether the sweep ended the trial.
    """

    def __init__(self, channel: TrialChannel, monitor: str) -> None:
        self.channel, self.monitor = channel, monitor
        self.pruned = False

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Report the epoch; all ranks stop if the sweep ends the trial."""
        stop = False
        if trainer.is_global_zero:
            value = metric_value(pl_module, self.monitor)
            last = trainer.should_stop or trainer.current_epoch + 1 == trainer.max_epochs
            report = EpochReport(trainer.current_epoch + 1, value if math.isfinite(value) else None, last)
            stop = self.channel.stops_after(report)
        if trainer.world_size > 1:
            stop = bool(trainer.strategy.broadcast(stop))
        if stop:
            self.pruned = trainer.should_stop = True

"""Settings of the optimiser in a resumed run."""

from __future__ import annotations

from typing import Any

from pytorch_lightning import Callback, LightningModule, Trainer
from torch import Tensor


class OptimizerSettings(Callback):
    """Use the optimiser settings of this run: loading a checkpoint replaces them by those of the checkpoint.

    Args:
        keep_lr: keep the learning rate of the checkpoint, which a plateau may have reduced; otherwise that of this run.
        scheduled: whether a schedule changes the learning rate in this run.
    """

    def __init__(self, keep_lr: bool, scheduled: bool = False) -> None:
        self.keep_lr, self.scheduled = keep_lr, scheduled
        self._groups: list[dict[str, Any]] = []

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Copy the settings; Lightning loads the state of the optimiser afterwards."""
        groups = [group for optimizer in trainer.optimizers for group in optimizer.param_groups]
        self._groups = [{key: value for key, value in group.items() if key != "params"} for group in groups]

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Restore the settings."""
        groups = [group for optimizer in trainer.optimizers for group in optimizer.param_groups]
        for group, own in zip(groups, self._groups, strict=True):
            if self.keep_lr:
                own = {key: value for key, value in own.items() if key not in ("lr", "base_lr")}
                if not self.scheduled and "base_lr" in group:
                    group["lr"] = group.pop("base_lr")  # the checkpoint has a schedule, this run has none
            else:
                group.pop("base_lr", None)  # read again from lr
                if isinstance(group["lr"], Tensor):
                    group["lr"].fill_(float(own.pop("lr")))
            group.update(own)

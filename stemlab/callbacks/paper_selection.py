"""The published choice of epochs: on the test split, for every scenario on its own. Optimistic; only for comparison.

MMFI's and MTReclib's code measure the test split after every epoch and report the best epoch there, MMFI's for every
scenario its own (spec/mmfi.md sections 7 and 7.1). No single model has all these numbers, and test rows chose them.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from itertools import islice
from typing import Any

import torch
from pytorch_lightning import Callback, LightningModule, Trainer
from pytorch_lightning.utilities import rank_zero_info

from stemlab.callbacks.improvement import Improvement
from stemlab.lightning.multitask import MultiTaskModule
from stemlab.metrics import MultiTaskMetrics

POOLED = "pooled"
NOTE = (
    "optimistic: the epoch of each scenario, and that of the pooled rows, was chosen by its own test AUC (the "
    "published rule of MMFI), so test rows chose these numbers and no single model has all of them; the honest "
    "ones are in metrics, of the epoch chosen on validation rows."
)


class PaperSelection(Callback):
    """Measure the test split after every epoch and keep the best epoch of each scenario and of all rows.

    An epoch is better if the mean of the tasks' AUCs rose; equal is not better. A scenario (or the pooled rows) that
    did not improve for ``patience`` epochs is not looked at any more; training goes on by its own rule. An undefined
    AUC is not counted. Neither the training nor the metrics of the run depend on what is measured here.

    Args:
        patience: epochs without improvement that are one too many.
    """

    def __init__(self, patience: int) -> None:
        self.patience, self.evaluated = patience, 0
        self.best: dict[str, Improvement] = {}
        self.waited: dict[str, int] = {}
        self.metrics: dict[str, dict[str, float]] = {}

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Measure and choose."""
        assert isinstance(pl_module, MultiTaskModule)
        names = [POOLED, *pl_module.scenarios]
        if any(self.waited.get(name, 0) < self.patience for name in names):
            self.update(names, pl_module.tasks, measure_test_split(trainer, pl_module), trainer.current_epoch)

    def update(self, names: list[str], tasks: tuple[str, ...], values: Mapping[str, float], epoch: int) -> None:
        """Choose by the metrics of an epoch.

        Args:
            names: the pooled rows and the scenarios.
            tasks: tasks measured.
            values: metrics of the test split without its name: ``auc/click``, ``auc/click/nl``.
            epoch: number of the epoch.
        """
        self.evaluated += 1
        for name in names:
            best = self.best.setdefault(name, Improvement())
            if self.waited.setdefault(name, 0) >= self.patience:
                continue
            ending = "" if name == POOLED else f"/{name}"
            value = sum(values[f"auc/{task}{ending}"] for task in tasks) / len(tasks)
            if math.isnan(value):
                continue
            if best.best is None or value > best.best:
                best.update(value, epoch)
                self.waited[name] = 0
                self.metrics[name] = {key: x for key, x in values.items() if _belongs(key, ending)}
            else:
                self.waited[name] += 1

    def summary(self) -> dict[str, Any]:
        """Return what the record says: a note, the epochs chosen, and their metrics by their full names."""
        chosen = [name for name in self.best if self.best[name].best is not None]
        return {
            "note": NOTE,
            "patience": self.patience,
            "epochs_evaluated": self.evaluated,
            "epoch": {name: self.best[name].epoch for name in chosen},
            "mean_auc": {name: self.best[name].best for name in chosen},
            "metrics": {f"test/{key}": value for name in chosen for key, value in self.metrics[name].items()},
        }

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Say what was chosen."""
        told = self.summary()
        parts = [f"{name} {told['mean_auc'][name]:.5f} (epoch {epoch + 1})" for name, epoch in told["epoch"].items()]
        rank_zero_info(f"paper_selection, optimistic: best mean test AUC of {', '.join(parts) or 'nothing defined'}")

    def state_dict(self) -> dict[str, Any]:
        """Return plain values for the checkpoint."""
        best = {name: rule.state_dict() for name, rule in self.best.items()}
        return {"evaluated": self.evaluated, "best": best, "waited": dict(self.waited), "metrics": dict(self.metrics)}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from a checkpoint."""
        self.evaluated, self.waited = state_dict["evaluated"], dict(state_dict["waited"])
        self.metrics = dict(state_dict["metrics"])
        for name, state in state_dict["best"].items():
            self.best[name] = Improvement()
            self.best[name].load_state_dict(state)


def _belongs(key: str, ending: str) -> bool:
    """Return whether a metric is of the scenario that ``ending`` names, or of all rows."""
    return key.count("/") == 2 and key.endswith(ending) if ending else key.count("/") < 2


@torch.no_grad()
def measure_test_split(trainer: Trainer, module: MultiTaskModule) -> dict[str, float]:
    """Return the metrics of the test split, without its name; a collective, and the module is left as it was."""
    data: Any = trainer.datamodule  # type: ignore[attr-defined]
    metrics = MultiTaskMetrics(module.tasks, module.scenarios)
    limit = trainer.limit_test_batches  # a number of batches, or 1.0: all of them
    modes = [(part, part.training) for part in module.modules()]
    module.eval()
    try:
        with trainer.precision_plugin.forward_context():
            for batch in islice(data.test_dataloader(), limit if isinstance(limit, int) else None):
                module.update_metrics(metrics, data.transfer_batch_to_device(batch, module.device, 0))
    finally:
        for part, training in modes:
            part.training = training
    return metrics.compute()

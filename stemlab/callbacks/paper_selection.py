"""Epoch selection on the test split, per scenario, as in the released code of MMFI. Optimistic: for comparison only.

The released code of MMFI and MTReclib evaluates the test split after every epoch and reports the best epoch; MMFI does
so per scenario (docs/methods/mmfi.md#checkpoint-selection). No single model has all these values, and they are selected
on test samples.
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
from stemlab.nn.modes import evaluation_mode
from stemlab.nn.sharded.network import finish_lookups

POOLED = "pooled"
NOTE = (
    "optimistic: the epoch of each scenario, and that of all samples, was selected by its own test AUC (rule of the "
    "released code of MMFI), so no single model has all of these values; the key metrics has the values of the epoch "
    "selected on the validation split."
)


class PaperSelection(Callback):
    """Evaluate the test split after every epoch; keep the best epoch of each scenario and of all samples (pooled).

    An epoch improves if the mean AUC over tasks is larger. A scenario (or the pooled samples) without improvement for
    ``patience`` epochs is not updated any more; the training itself continues until its early stopping. Epochs with an
    undefined AUC are not counted. Neither the training nor the metrics of the run depend on this evaluation.

    Args:
        patience: number of epochs without improvement.
    """

    def __init__(self, patience: int) -> None:
        self.patience, self.evaluated = patience, 0
        self.best: dict[str, Improvement] = {}
        self.waited: dict[str, int] = {}
        self.metrics: dict[str, dict[str, float]] = {}

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Evaluate the test split and update the best epochs."""
        assert isinstance(pl_module, MultiTaskModule)
        names = [POOLED, *pl_module.scenarios]
        if any(self.waited.get(name, 0) < self.patience for name in names):
            self.update(names, pl_module.tasks, measure_test_split(trainer, pl_module), trainer.current_epoch)

    def update(self, names: list[str], tasks: tuple[str, ...], values: Mapping[str, float], epoch: int) -> None:
        """Update the best epochs with the metrics of an epoch.

        Args:
            names: ``pooled`` and the scenarios.
            tasks: measured tasks.
            values: metrics of the test split, names without the split: ``auc/click``, ``auc/click/nl``.
            epoch: the epoch, from 0.
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
                self.metrics[name] = {key: x for key, x in values.items() if _belongs(key, name)}
            else:
                self.waited[name] += 1

    def summary(self) -> dict[str, Any]:
        """Return the entry of the record: note, selected epochs, and their metrics by full name."""
        chosen = [name for name in self.best if self.best[name].best is not None]
        return {
            "note": NOTE,
            "patience": self.patience,
            "epochs_evaluated": self.evaluated,
            "epoch": {name: self.best[name].epoch + 1 for name in chosen},
            "mean_auc": {name: self.best[name].best for name in chosen},
            "metrics": {f"test/{key}": value for name in chosen for key, value in self.metrics[name].items()},
        }

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Log the selected epochs."""
        summary = self.summary()
        means, epochs = summary["mean_auc"], summary["epoch"]
        parts = [f"{name} {means[name]:.5f} (epoch {epoch})" for name, epoch in epochs.items()]
        rank_zero_info(f"paper_selection (optimistic): best mean test AUC: {', '.join(parts) or 'undefined'}")

    def state_dict(self) -> dict[str, Any]:
        """Return plain values for the checkpoint."""
        best = {name: rule.state_dict() for name, rule in self.best.items()}
        return {"evaluated": self.evaluated, "best": best, "waited": dict(self.waited), "metrics": dict(self.metrics)}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the state of a checkpoint."""
        self.evaluated, self.waited = state_dict["evaluated"], dict(state_dict["waited"])
        self.metrics = dict(state_dict["metrics"])
        for name, state in state_dict["best"].items():
            self.best[name] = Improvement()
            self.best[name].load_state_dict(state)


def _belongs(key: str, name: str) -> bool:
    """Return whether a metric, ``auc/click/nl``, belongs to a scenario, whose name may have slashes, or is pooled."""
    scenario = key.split("/", 2)[2:]
    return scenario == ([] if name == POOLED else [name])


@torch.no_grad()
def measure_test_split(trainer: Trainer, module: MultiTaskModule) -> dict[str, float]:
    """Return the metrics of the test split, names without the split. Collective; the module does not change."""
    data: Any = trainer.datamodule  # type: ignore[attr-defined]
    regression, own = module.label_columns.regression, module.settings.own_metrics
    metrics = MultiTaskMetrics(module.tasks, module.scenarios, regression=regression, own=own)
    limit = trainer.limit_test_batches  # a number of batches, or 1.0: all of them
    with evaluation_mode(module):
        with trainer.precision_plugin.forward_context():
            for batch in islice(data.test_dataloader(), limit if isinstance(limit, int) else None):
                module.update_metrics(metrics, data.transfer_batch_to_device(batch, module.device, 0))
        finish_lookups(module.net)
    return metrics.compute()

"""Base LightningModule of all model families: exact metrics, logging, loss checks, seeds."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol, cast

import torch
from pytorch_lightning import LightningModule
from pytorch_lightning.utilities import rank_zero_info
from torch import Tensor, nn

from stemlab.errors import StemlabError
from stemlab.lightning.loss_means import LossMeans
from stemlab.lightning.settings import CommonSettings

METRIC_SPLITS = ("train", "val", "test")


class SplitMetrics(Protocol):
    """Metrics of one split: updated per batch, exact for every world size."""

    undefined: list[str]
    """Reasons for NaN values, one sentence each; set by ``compute``."""

    def compute(self) -> dict[str, float]:
        """Return metric name -> value. Collective: call it on every process."""
        ...

    def reset(self) -> None:
        """Clear all states."""
        ...


class NetModule(LightningModule):
    """Base class: a network with its metrics, logging and checks.

    Args:
        net: the network.
        settings: settings common to all families.
        metrics: split -> its metrics.
        hyper_parameters: plain values saved in every checkpoint: ``config``, ``spec``, ``fingerprint``.

    Attributes:
        headlines: metrics shown during training, without the split.
        test_split_name: prefix of the metrics of the test loop.
        metric_values: full metric name (``val/auc/like``) -> latest value, float64, NaN where undefined.
        metric_warnings: reasons for undefined metrics, each sentence once.
    """

    headlines: tuple[str, ...] = ()

    def __init__(
        self,
        net: nn.Module,
        settings: CommonSettings,
        metrics: Mapping[str, SplitMetrics],
        hyper_parameters: dict[str, Any] | None,
    ) -> None:
        super().__init__()
        self.save_hyperparameters(hyper_parameters or {}, logger=False)
        self.net, self._common = net, settings
        # a plain dictionary, not submodules: the states stay on the CPU and out of checkpoints
        self._metrics = dict(metrics)
        self.test_split_name = "test"
        self.metric_values: dict[str, float] = {}
        self.metric_warnings: list[str] = []
        self._loss_means = LossMeans()

    # ------------------------------------------------------------------------------------------------- training

    def setup(self, stage: str) -> None:
        """Compile the network in place, which keeps the names of its weights."""
        if stage == "fit" and self._common.compile:
            self.net.compile()

    def on_train_epoch_start(self) -> None:
        """Seed torch with run seed, epoch and rank, so that a resumed run draws the same dropout masks."""
        torch.manual_seed((self._common.seed * 1_000_003 + self.current_epoch) * 1_009 + self.global_rank)

    def _check_and_log_step(self, loss: Tensor, parts: Mapping[str, Tensor], samples: int, batch_idx: int) -> None:
        """Check that the loss of a step is finite; log the mean losses of the interval and the learning rate."""
        if self._is_logging_step(batch_idx) or (self.device.type == "cpu" and self.trainer.world_size == 1):
            self._check_finite(loss.detach().clone(), batch_idx)
        self._loss_means.add({"loss": loss, **{f"loss/{part}": value for part, value in parts.items()}})
        if self._is_logging_step(batch_idx):
            self._log_losses(samples)
        if self._ends_interval():
            self._loss_means.reset()

    def _log_losses(self, samples: int = 1) -> None:
        # batches of all processes have equal size, so their mean losses may be averaged; metrics may not
        means = {f"train/{name}": value for name, value in self._loss_means.means().items()}
        self.log_dict(means, sync_dist=True, batch_size=samples)
        self.log("train/lr", torch.tensor(self._learning_rate(), dtype=torch.float64), batch_size=samples)

    def on_train_epoch_end(self) -> None:
        """Log the mean losses of the steps since the last logging step: every epoch ends with a point."""
        if self._loss_means.steps:
            self._log_losses()
        self._loss_means.reset()

    def _is_logging_step(self, batch_idx: int) -> bool:
        """Return whether losses are logged in this step; the first one of an epoch is for the progress bar only."""
        return self._ends_interval() or batch_idx == 0

    def _ends_interval(self) -> bool:
        every = self.trainer.log_every_n_steps  # type: ignore[attr-defined]
        return bool((self.global_step + 1) % every == 0)

    def _learning_rate(self) -> float:
        return float(self.trainer.optimizers[0].param_groups[0]["lr"])

    def _check_finite(self, loss: Tensor, batch_idx: int) -> None:
        """Raise StemlabError on every process if the mean loss is not finite. Collective; synchronises the GPU."""
        loss = cast(Tensor, self.trainer.strategy.reduce(loss, reduce_op="mean"))
        if not torch.isfinite(loss):
            raise StemlabError(
                f"the training loss became {loss.item()} in epoch {self.current_epoch + 1}, step {batch_idx + 1} "
                f"(learning rate {self._learning_rate():g}): {self._remedy()}."
            )

    def _remedy(self) -> str:
        """Return the advice at the end of the error message for a loss that is not finite."""
        return "lower optim.lr, or use trainer.precision=32-true"

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Save the losses of an unfinished logging interval."""
        if self._loss_means.steps:
            checkpoint["loss_means"] = self._loss_means.state_dict()

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Restore the losses of an unfinished logging interval."""
        if "loss_means" in checkpoint:
            self._loss_means.load_state_dict(checkpoint["loss_means"])

    # ----------------------------------------------------------------------------------------------- evaluation

    def on_validation_epoch_end(self) -> None:
        """Report the validation metrics."""
        self._report("val")

    def on_test_epoch_end(self) -> None:
        """Report the test metrics."""
        self._report(self.test_split_name)

    def _report(self, split: str) -> None:
        metrics = self._metrics[split]
        computed = {name: float(value) for name, value in metrics.compute().items() if self._is_reported(name)}
        values = {f"{split}/{name}": value for name, value in computed.items()}
        reasons = [f"{split}/{reason}" for reason in metrics.undefined]
        metrics.reset()
        self.metric_values.update(values)
        self.log_dict({name: torch.tensor(x, dtype=torch.float64) for name, x in values.items()}, batch_size=1)
        for reason in reasons:
            if reason not in self.metric_warnings:
                self.metric_warnings.append(reason)
                rank_zero_info(f"warning: {reason}")

    def _is_reported(self, name: str) -> bool:
        """Return whether a metric (name without the split) is reported in the current loop."""
        del name
        return True

"""Base LightningModule of all model families: exact metrics, logging, loss checks, seeds."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Callable, Mapping
from typing import Any, NoReturn, Protocol, cast

import torch
from pytorch_lightning import LightningModule
from pytorch_lightning.utilities import rank_zero_info
from torch import Tensor, nn
from torch.optim import Optimizer

from stemlab.data.blocks import StepBlock
from stemlab.errors import StemlabError
from stemlab.lightning.accumulation import loss_weight
from stemlab.lightning.block_training import BlockTraining
from stemlab.lightning.interval_loop import IntervalEpochLoop
from stemlab.lightning.loss_means import LossMeans
from stemlab.lightning.settings import CommonSettings
from stemlab.nn.sharded.network import finish_lookups
from stemlab.optim.average import WeightAverage
from stemlab.optim.capture import plain_groups
from stemlab.optim.groups import named_rates
from stemlab.optim.schedule import RateSchedule

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
        loss_means: losses of the unfinished logging interval.
        may_log: False while ``StepLoop`` executes a step that logs nothing, so that the step need not find it out.
        step_values: logged values of the current training step, for ``StepLoop``; None: they are logged by Lightning.
        blocks: executes several steps per batch of Lightning, or None; see ``train_in_blocks``.
        schedule: sets the learning rates before every step, or None; set it before the training starts.
        average: average of the weights, or None; ``AveragedWeights`` sets it.
        before_metrics: called with the samples of a split before its metrics are computed, or None. Collective.
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
        self.loss_means = LossMeans()
        self.blocks: BlockTraining | None = None
        self.schedule: RateSchedule | None = None
        self.average: WeightAverage | None = None
        self.before_metrics: Callable[[SplitMetrics], None] | None = None
        self.may_log = True
        self.step_values: dict[str, Tensor] | None = None
        self._compiled_size = 0  # largest training batch so far

    # ------------------------------------------------------------------------------------------------- training

    @abstractmethod
    def losses(self, batch: Any) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the training loss of a batch, a scalar, and its parts by name.

        Nothing in it reads a value of the GPU on the CPU, so that a step can be captured as a CUDA graph.
        """

    def clip(self, optimizer: Optimizer, needs_norm: bool = True) -> Tensor | None:
        """Clip the gradients and return their norm before that; None if they are not clipped, or it is not needed."""
        del optimizer, needs_norm
        return None

    def train_in_blocks(self, blocks: BlockTraining) -> None:
        """Read blocks of steps instead of batches in training. Call it before the training starts."""
        self.blocks, self.automatic_optimization = blocks, False

    def training_step(self, batch: Any, batch_idx: int) -> Tensor | dict[str, Any]:
        """Return the loss of a batch; of a block, execute its steps and return their mean loss and number.

        Raises:
            StemlabError: the loss is not finite, or the batch has no labels.
        """
        if isinstance(batch, StepBlock):
            assert self.blocks is not None
            return self.blocks.step(self, batch)
        if self.schedule is not None:
            self.schedule.apply(self.trainer.optimizers[0], self.global_step)
        loss, parts = self.losses(batch)
        self._check_and_log_step(loss, parts, len(batch), batch_idx)
        return loss if self.trainer.accumulate_grad_batches == 1 else loss * loss_weight(self.trainer, batch_idx)

    def on_train_start(self) -> None:
        """Prepare the training in blocks; end a resumed training that has all its steps."""
        self.may_log = True
        if self.blocks is not None:
            self.blocks.start(self)
        loop = self.trainer.fit_loop.epoch_loop
        if isinstance(loop, IntervalEpochLoop) and loop.reaches_limit():
            self.trainer.should_stop = True

    def setup(self, stage: str) -> None:
        """Compile the network in place, which keeps the names of its weights."""
        if stage == "fit" and self._common.compile:
            self.net.compile(dynamic=False)

    def run_net(self, batch: Any, *arguments: Any) -> Any:
        """Return the output of the network for a training batch.

        A compiled network is compiled once, for the largest batch size; a smaller last batch runs without it.
        """
        if self._common.compile:
            if len(batch) < self._compiled_size:
                return self.net.forward(batch, *arguments)
            self._compiled_size = len(batch)
        return self.net(batch, *arguments)

    def on_train_epoch_start(self) -> None:
        """Seed torch with run seed and epoch, so that a resumed run draws the same dropout masks.

        All processes draw the same numbers, those of the global batch (``stemlab.nn.global_batch``).
        """
        torch.manual_seed((self._common.seed * 1_000_003 + self.current_epoch) * 1_009)

    def _check_and_log_step(self, loss: Tensor, parts: Mapping[str, Tensor], samples: int, batch_idx: int) -> None:
        """Check that the loss of a step is finite; log the mean losses of the interval and the learning rate."""
        ends_interval = self._ends_interval()
        logs = ends_interval or batch_idx == 0  # the first step of an epoch is for the progress bar only
        if logs or (loss.is_cpu and self.trainer.world_size == 1):
            self._check_finite(loss, batch_idx)
        self.loss_means.add({"loss": loss, **{f"loss/{part}": value for part, value in parts.items()}})
        if logs:
            self._log_losses(samples)
        if ends_interval:
            self.loss_means.reset()

    def _log_losses(self, samples: int = 1) -> None:
        # batches of all processes have equal size, so their mean losses may be averaged; metrics may not
        means = {f"train/{name}": value for name, value in self.loss_means.means().items()}
        rates = {name: torch.tensor(rate, dtype=torch.float64) for name, rate in self.learning_rates().items()}
        if self.step_values is not None:
            self.step_values |= means | rates
            return
        self.log_dict(means, sync_dist=True, batch_size=samples)
        self.log_dict(rates, batch_size=samples)

    def on_train_epoch_end(self) -> None:
        """Log the mean losses of the steps since the last logging step: every epoch ends with a point."""
        if self.loss_means.steps:
            self._log_losses()
        self.loss_means.reset()

    def _is_logging_step(self, batch_idx: int) -> bool:
        """Return whether losses are logged in this step; the first one of an epoch is for the progress bar only."""
        return self.may_log and (self._ends_interval() or batch_idx == 0)

    def _ends_interval(self) -> bool:
        if not self.may_log:
            return False
        every = self.trainer.log_every_n_steps  # type: ignore[attr-defined]
        if (self.global_step + 1) % every:
            return False
        return self.trainer.accumulate_grad_batches == 1 or not self.trainer.fit_loop.epoch_loop._should_accumulate()

    def learning_rate(self) -> float:
        """Return the current learning rate."""
        return float(self.trainer.optimizers[0].param_groups[0]["lr"])

    def learning_rates(self) -> dict[str, float]:
        """Return the current learning rate, and those of ``optim.lr_groups``, by logged name."""
        return named_rates(self.trainer.optimizers[0])

    def _check_finite(self, loss: Tensor, batch_idx: int) -> None:
        """Raise StemlabError on every process if the mean loss is not finite. Collective; synchronises the GPU."""
        if self.trainer.world_size > 1:
            loss = cast(Tensor, self.trainer.strategy.reduce(loss.detach().clone(), reduce_op="mean"))
        if not math.isfinite(value := loss.item()):
            self.raise_not_finite(value, self.current_epoch, batch_idx, self.learning_rate())

    def raise_not_finite(self, loss: float, epoch: int, step: int, learning_rate: float) -> NoReturn:
        """Raise StemlabError for a loss that is not finite.

        Args:
            loss: the loss.
            epoch: epoch of the step, from 0.
            step: number of the step in the epoch, from 0.
            learning_rate: learning rate of the step.
        """
        raise StemlabError(
            f"the training loss became {loss} in epoch {epoch + 1}, step {step + 1} (learning rate {learning_rate:g}): "
            f"{self._remedy()}."
        )

    def _remedy(self) -> str:
        """Return the advice at the end of the error message for a loss that is not finite."""
        return "lower optim.lr, or use trainer.precision=32-true"

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Save the losses of an unfinished logging interval, and optimiser settings that every device can load."""
        if self.blocks is not None:
            self.blocks.save(self, checkpoint)
        for state in checkpoint.get("optimizer_states", []):
            plain_groups(state)
        if self.loss_means.steps:
            checkpoint["loss_means"] = self.loss_means.state_dict()

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Restore the losses of an unfinished logging interval."""
        if "loss_means" in checkpoint:
            self.loss_means.load_state_dict(checkpoint["loss_means"])

    # ----------------------------------------------------------------------------------------------- evaluation

    def on_validation_epoch_end(self) -> None:
        """Report the validation metrics."""
        self._report("val")

    def on_test_epoch_end(self) -> None:
        """Report the test metrics."""
        self._report(self.test_split_name)

    def _report(self, split: str) -> None:
        finish_lookups(self.net)
        if self.before_metrics is not None:
            self.before_metrics(self._metrics[split])
        self._report_metrics(split, self._metrics[split])

    def _report_metrics(self, split: str, metrics: SplitMetrics) -> None:
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

"""What the LightningModules of all families have in common: exact metrics, what is logged, checks, seeds."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol, cast

import torch
from pytorch_lightning import LightningModule
from pytorch_lightning.utilities import rank_zero_info
from torch import Tensor, nn

from stemlab.errors import StemlabError
from stemlab.lightning.settings import CommonSettings

METRIC_SPLITS = ("train", "val", "test")


class SplitMetrics(Protocol):
    """Metrics of one split: filled batch by batch, exact on any number of processes."""

    undefined: list[str]
    """Why values are NaN, a sentence each, after ``compute``."""

    def compute(self) -> dict[str, float]:
        """Return every metric by its name; a collective."""
        ...

    def reset(self) -> None:
        """Forget everything."""
        ...


class NetModule(LightningModule):
    """A network in training, whatever it learns.

    Args:
        net: the network.
        settings: what the modules of all families read.
        metrics: split -> its metrics.
        hyper_parameters: plain values kept in every checkpoint: ``config``, ``spec``, ``fingerprint``.

    Attributes:
        headlines: metrics that a person watches while it trains, without the split.
        test_split_name: the name under which the test loop's numbers are reported.
        metric_values: newest value of every metric by its full name (``val/auc/like``), float64, NaN where undefined.
        metric_warnings: what the metrics had to say, each sentence once.
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
        # a plain dictionary, no submodules: their states stay on the CPU and out of checkpoints
        self._metrics = dict(metrics)
        self.test_split_name = "test"
        self.metric_values: dict[str, float] = {}
        self.metric_warnings: list[str] = []

    # ------------------------------------------------------------------------------------------------- training

    def setup(self, stage: str) -> None:
        """Compile the network in place, so that the names of its weights stay as they are."""
        if stage == "fit" and self._common.compile:
            self.net.compile()

    def on_train_epoch_start(self) -> None:
        """Give each epoch and process its own random numbers: a resumed run draws the same dropout masks."""
        torch.manual_seed((self._common.seed * 1_000_003 + self.current_epoch) * 1_009 + self.global_rank)

    def _log_step(self, loss: Tensor, parts: Mapping[str, Tensor], rows: int, batch_idx: int) -> None:
        """Check that a step's loss is finite and log it, its parts (name -> scalar) and the learning rate."""
        if self._is_logging_step(batch_idx) or (self.device.type == "cpu" and self.trainer.world_size == 1):
            self._check_finite(loss.detach().clone(), batch_idx)
        if self._is_logging_step(batch_idx):
            named = {"loss": loss, **{f"loss/{part}": value for part, value in parts.items()}}
            # a mean of equally large batches may be averaged over processes; a metric may not
            self.log_dict({f"train/{k}": v.detach() for k, v in named.items()}, sync_dist=True, batch_size=rows)
            self.log("train/lr", torch.tensor(self._learning_rate(), dtype=torch.float64), batch_size=rows)

    def _is_logging_step(self, batch_idx: int) -> bool:
        every = self.trainer.log_every_n_steps  # type: ignore[attr-defined]
        return (self.global_step + 1) % every == 0 or batch_idx == 0

    def _learning_rate(self) -> float:
        return float(self.trainer.optimizers[0].param_groups[0]["lr"])

    def _check_finite(self, loss: Tensor, batch_idx: int) -> None:
        """Stop all processes alike; not at every step where asking means waiting for a GPU or another process."""
        loss = cast(Tensor, self.trainer.strategy.reduce(loss, reduce_op="mean"))
        if not torch.isfinite(loss):
            raise StemlabError(
                f"the training loss became {loss.item()} in epoch {self.current_epoch}, step {batch_idx} "
                f"(learning rate {self._learning_rate():g}): {self._remedy()}."
            )

    def _remedy(self) -> str:
        return "lower optim.lr, or use trainer.precision=32-true"

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
        sentences = [f"{split}/{sentence}" for sentence in metrics.undefined]
        metrics.reset()
        self.metric_values.update(values)
        self.log_dict({name: torch.tensor(x, dtype=torch.float64) for name, x in values.items()}, batch_size=1)
        for sentence in sentences:
            if sentence not in self.metric_warnings:
                self.metric_warnings.append(sentence)
                rank_zero_info(f"warning: {sentence}")

    def _is_reported(self, name: str) -> bool:
        """Return whether a metric (without the split) is reported now."""
        del name
        return True

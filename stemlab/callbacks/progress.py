"""Progress output: a bar on terminals, one line per epoch everywhere."""

from __future__ import annotations

import sys
import time
from typing import Any, Literal

import rich
import torch
from pytorch_lightning import Callback, LightningModule, Trainer
from pytorch_lightning.callbacks import RichProgressBar
from pytorch_lightning.callbacks.progress.rich_progress import RichProgressBarTheme

from stemlab.callbacks.throughput import Throughput
from stemlab.data.blocks import BlockLoader, StepBlock


def use_progress_bar(progress: bool | Literal["auto"]) -> bool:
    """Return whether to show a progress bar; ``auto``: on terminals only."""
    return sys.stdout.isatty() if progress == "auto" else bool(progress)


def headline_metrics(module: LightningModule, split: str = "val") -> dict[str, float]:
    """Return the headline metrics of the latest evaluation, means and values per task, names without the split.

    Values per scenario (``val/auc/click/nl``) are excluded: there are too many for one line.
    """
    values: dict[str, float] = module.metric_values  # type: ignore[assignment]
    headlines: tuple[str, ...] = module.headlines  # type: ignore[assignment]
    heads = [f"{split}/{name}" for name in headlines]
    shown = [k for head in heads for k in values if k == head or (k.startswith(f"{head}/") and k.count("/") < 3)]
    return {k.removeprefix(f"{split}/"): values[k] for k in shown}


def format_rate(rate: float | None) -> str:
    """Return samples per second with three digits: ``41.2k samples/s``."""
    if rate is None:
        return "- samples/s"
    scale, unit = next(((s, u) for s, u in ((1e6, "M"), (1e3, "k")) if rate >= s), (1, ""))
    return f"{rate / scale:.3g}{unit} samples/s"


class MetricBar(RichProgressBar):
    """Lightning's rich progress bar with training loss, headline metrics of validation and samples per second.

    Args:
        throughput: measures samples per second.
    """

    def __init__(self, throughput: Throughput) -> None:
        super().__init__(refresh_rate=10, leave=False, theme=RichProgressBarTheme(metrics_text_delimiter="  "))
        self.throughput = throughput
        self._next = 0.0  # time of the next update

    def _get_train_description(self, current_epoch: int) -> str:
        """Return the label of the bar, padded to the width of the label of the validation bar; epochs count from 1."""
        label = f"epoch {current_epoch + 1}/{self.trainer.max_epochs}"
        return label.ljust(len(self.validation_description))

    @property
    def total_train_batches(self) -> int | float:
        """Steps of an epoch, also if Lightning counts blocks of steps."""
        loader = self.trainer.train_dataloader
        return loader.steps if isinstance(loader, BlockLoader) else super().total_train_batches

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Advance the bar to this step, or to the last one of a block, at most twice between two drawings."""
        now = time.monotonic()
        if now < self._next and not trainer.fit_loop.epoch_loop.batch_progress.is_last_batch:
            return
        self._next = now + 0.5 / self.refresh_rate
        last = batch.first_step + batch.steps - 1 if isinstance(batch, StepBlock) else batch_idx
        super().on_train_batch_end(trainer, pl_module, outputs, batch, last)

    def get_metrics(self, trainer: Trainer, pl_module: LightningModule) -> dict[str, Any]:
        """Return the text of each value shown next to the bar."""
        value = trainer.callback_metrics.get("train/loss")
        loss = "-" if value is None else f"{float(value):.4f}"
        metrics = {name: f"{value:.4f}" for name, value in headline_metrics(pl_module).items()}
        return {"loss": loss, **metrics, "speed": format_rate(self.throughput.train.rate())}


class EpochLines(Callback):
    """Print one line per epoch: mean training loss, headline metrics of validation, samples per second.

    Args:
        throughput: measures samples per second.
    """

    def __init__(self, throughput: Throughput) -> None:
        self.throughput = throughput
        self._sum: torch.Tensor | float | None = None
        self._steps = 0

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Reset the mean loss."""
        self._sum, self._steps = None, 0

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Add the loss of a step, of a part of it, or the losses of a block of steps, on their device."""
        loss, steps = outputs["loss"].detach(), outputs.get("steps", 1)
        if trainer.accumulate_grad_batches > 1:  # losses that add up to that of a step
            self._sum = loss if self._sum is None else self._sum + loss
            self._steps += not trainer.fit_loop.epoch_loop._should_accumulate()
            return
        if loss.is_cpu:
            self._sum = (self._sum or 0.0) + loss.item() * steps  # numbers take less time than tensors
        else:
            loss = loss * steps if steps > 1 or self._sum is None else loss
            self._sum = loss if self._sum is None else self._sum + loss
        self._steps += steps

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Print the line on rank 0."""
        if not trainer.is_global_zero:
            return
        loss = float(self._sum) / self._steps if self._sum is not None else float("nan")
        metrics = "  ".join(f"{name} {value:.5f}" for name, value in headline_metrics(pl_module).items())
        rate = float(trainer.optimizers[0].param_groups[0]["lr"])
        line = f"epoch {trainer.current_epoch + 1}/{trainer.max_epochs}  loss {loss:.4f}  val: {metrics}  "
        rich.get_console().print(
            f"{line}{format_rate(self.throughput.train.rate())}  lr {rate:g}",
            highlight=False,
            soft_wrap=True,
            markup=False,
        )

    def state_dict(self) -> dict[str, Any]:
        """Return the sum of the losses, for a run that resumes within the epoch."""
        return {"sum": None if self._sum is None else float(self._sum), "steps": self._steps}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the sum of a checkpoint."""
        total = state_dict["sum"]
        self._sum, self._steps = None if total is None else torch.tensor(total), state_dict["steps"]

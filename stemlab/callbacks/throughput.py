"""Samples per second of training (without validation) and of evaluation."""

from __future__ import annotations

import time
from typing import Any

import torch
from pytorch_lightning import Callback, LightningModule, Trainer


class Stopwatch:
    """Samples processed and seconds elapsed while the clock runs."""

    def __init__(self) -> None:
        self.samples, self.seconds = 0, 0.0
        self._since: float | None = None

    def start(self) -> None:
        """Start the clock."""
        self._since = time.perf_counter()

    def count(self, samples: int) -> None:
        """Add processed samples."""
        self.samples += samples

    def stop(self) -> None:
        """Stop the clock; no effect if it is stopped."""
        if self._since is not None:
            self.seconds += time.perf_counter() - self._since
            self._since = None

    def rate(self) -> float | None:
        """Return samples per second up to now, or None before the first sample."""
        running = time.perf_counter() - self._since if self._since is not None else 0.0
        elapsed = self.seconds + running
        return self.samples / elapsed if self.samples and elapsed else None


class Throughput(Callback):
    """Measure samples per second over all processes, including data loading."""

    def __init__(self) -> None:
        self.train, self.evaluation = Stopwatch(), Stopwatch()
        self.epoch_rates: list[float] = []
        """Samples per second of each training epoch; the first one includes warm-up and compilation."""
        self._epoch_start = (0, 0.0)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start the clock of training: a run resumed within an epoch does not start this epoch."""
        self.train.start()

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start the clock of training."""
        self._epoch_start = (self.train.samples, self.train.seconds)
        self.train.start()

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Count the samples of a step on all processes."""
        self.train.count(len(batch) * trainer.world_size)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Stop the clock of training (no effect after a validation) and note the rate of the epoch."""
        self._pause_training(pl_module)
        samples, seconds = self._epoch_start
        if self.train.seconds > seconds:
            self.epoch_rates.append((self.train.samples - samples) / (self.train.seconds - seconds))

    def _pause_training(self, pl_module: LightningModule) -> None:
        if pl_module.device.type == "cuda":
            torch.cuda.synchronize(pl_module.device)
        self.train.stop()

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Stop the clock of training, start that of evaluation."""
        self._pause_training(pl_module)
        self.evaluation.start()

    def on_validation_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int, *rest: Any
    ) -> None:
        """Count the samples of all processes, which have about equally many."""
        self.evaluation.count(len(batch) * trainer.world_size)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Stop the clock of evaluation, after the metrics are computed."""
        self.evaluation.stop()

    def on_training_continues(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start the clock of training after a validation within an epoch."""
        self.train.start()

    def on_test_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start the clock of evaluation."""
        self.evaluation.start()

    def on_test_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int, *rest: Any
    ) -> None:
        """Count samples, as in validation."""
        self.evaluation.count(len(batch) * trainer.world_size)

    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Stop the clock of evaluation, after the metrics are computed."""
        self.evaluation.stop()

"""Samples a second, of training without validation and of evaluation."""

from __future__ import annotations

import time
from typing import Any

import torch
from pytorch_lightning import Callback, LightningModule, Trainer


class Stopwatch:
    """Rows and seconds of one kind of work."""

    def __init__(self) -> None:
        self.rows, self.seconds = 0, 0.0
        self._since: float | None = None

    def start(self) -> None:
        """Begin a stretch of work."""
        self._since = time.perf_counter()

    def count(self, rows: int) -> None:
        """Add rows that were done."""
        self.rows += rows

    def stop(self) -> None:
        """End a stretch; stopping twice does no harm."""
        if self._since is not None:
            self.seconds += time.perf_counter() - self._since
            self._since = None

    def rate(self) -> float | None:
        """Rows a second up to now, or None before the first row."""
        running = time.perf_counter() - self._since if self._since is not None else 0.0
        return self.rows / (self.seconds + running) if self.rows else None


class Throughput(Callback):
    """Measure rows a second over all processes, reading the data included."""

    def __init__(self) -> None:
        self.train, self.evaluation = Stopwatch(), Stopwatch()

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Begin to measure training."""
        self.train.start()

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Count the rows of a step on all processes."""
        self.train.count(len(batch) * trainer.world_size)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """End the epoch (already ended where it was validated)."""
        self._pause_training(pl_module)

    def _pause_training(self, pl_module: LightningModule) -> None:
        if pl_module.device.type == "cuda":
            torch.cuda.synchronize(pl_module.device)
        self.train.stop()

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Stop the watch of training, start that of evaluation."""
        self._pause_training(pl_module)
        self.evaluation.start()

    def on_validation_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int, *rest: Any
    ) -> None:
        """Count rows; each process gets its share, so all together did about as many times more."""
        self.evaluation.count(len(batch) * trainer.world_size)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """End the evaluation, metrics included."""
        self.evaluation.stop()

    def on_test_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start the watch of evaluation."""
        self.evaluation.start()

    def on_test_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int, *rest: Any
    ) -> None:
        """Count rows."""
        self.evaluation.count(len(batch) * trainer.world_size)

    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """End the evaluation, metrics included."""
        self.evaluation.stop()

"""Loggers whose ``epoch`` counts from 1, as every other number of an epoch that a user reads."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pytorch_lightning.loggers import CSVLogger, TensorBoardLogger, WandbLogger


class EpochsFromOne:
    """Mixin: Lightning and the callbacks pass the index of the epoch, from 0."""

    def log_metrics(self, metrics: Mapping[str, Any], step: int | None = None) -> None:
        """Log metrics, with the number of the epoch instead of its index."""
        counted = {**metrics, "epoch": metrics["epoch"] + 1} if "epoch" in metrics else metrics
        super().log_metrics(counted, step)  # type: ignore[misc]


class EpochCSVLogger(EpochsFromOne, CSVLogger):
    """CSV logger with epochs from 1; an error of the file names it."""

    def save(self) -> None:
        """Write the metrics that were logged since the last call.

        Raises:
            OSError: the file cannot be written.
        """
        try:
            super().save()
        except OSError as error:
            raise OSError(error.errno, error.strerror, self.experiment.metrics_file_path) from error


class EpochTensorBoardLogger(EpochsFromOne, TensorBoardLogger):
    """TensorBoard logger with epochs from 1."""


class EpochWandbLogger(EpochsFromOne, WandbLogger):
    """W&B logger with epochs from 1."""

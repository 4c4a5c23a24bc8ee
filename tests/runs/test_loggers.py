"""Errors of the files of loggers: the file is named; those of W&B do not end a training."""

from __future__ import annotations

import errno
import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from pytorch_lightning.loggers import WandbLogger

from stemlab.reporting.scores import TaskScores
from stemlab.runs import epochs_from_one, loggers, wandb_logger, wandb_reliability
from stemlab.runs.epochs_from_one import EpochCSVLogger


def test_a_full_disk_names_the_metrics_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(logger: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(epochs_from_one.CSVLogger, "save", fail)
    with pytest.raises(OSError, match="No space left") as caught:
        EpochCSVLogger(tmp_path, name="", version="").save()
    assert caught.value.filename == str(tmp_path / "metrics.csv")


def full_disk(*arguments: Any, **named: Any) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


def test_a_full_disk_for_wandb_is_a_warning_at_each_step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    printed: list[str] = []
    monkeypatch.setattr(wandb_logger, "rank_zero_info", printed.append)
    config = {"logger": {"csv": False, "tensorboard": False, "mlflow": False, "wandb": "on", "wandb_artifacts": True}}
    monkeypatch.setattr(loggers, "wandb_mode", lambda setting: "offline")
    monkeypatch.setattr(loggers, "build_wandb_logger", full_disk)
    assert loggers.build_loggers(config, tmp_path, sample=True, sweep_id=None) == []

    run = SimpleNamespace(summary={}, finish=full_disk, log=full_disk)
    own = WandbLogger.__new__(WandbLogger)
    monkeypatch.setattr(WandbLogger, "experiment", run)
    monkeypatch.setattr(WandbLogger, "finalize", lambda self, status: None)
    monkeypatch.setattr(loggers, "log_artifacts", full_disk)
    loggers.log_checkpoint([own], {"config": config}, tmp_path / "best.ckpt")
    monkeypatch.setattr(wandb_reliability, "reliability_lines", lambda scores: "chart")
    wandb_reliability.log_reliability([own], TaskScores.__new__(TaskScores))
    loggers.finish_loggers([own], failed=False)
    for line, activity in zip(printed, ("start", "artifact", "reliability", "finish"), strict=True):
        assert re.search(rf"warning: W&B .*{activity}.*No space left on device.*goes on", line)

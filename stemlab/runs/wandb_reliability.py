"""Reliability diagram of a W&B run, from the saved scores of its test samples (``save_scores=true``)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pytorch_lightning.loggers import Logger, WandbLogger

from stemlab.reporting.scores import SampleScores, TaskScores
from stemlab.runs.environment import is_first_process
from stemlab.runs.wandb_logger import disk_errors_reported

CHART = "reliability"
"""Name of the chart in W&B; its table is ``reliability_table`` with the columns step, lineVal and lineKey."""


def log_reliability(loggers: Sequence[Logger], scores: SampleScores | None) -> None:
    """Log observed against predicted rates, one line per binary task, to the W&B run; nothing without scores."""
    every = [logger for logger in loggers if isinstance(logger, WandbLogger)]
    if every and isinstance(scores, TaskScores) and is_first_process():
        chart = reliability_lines(scores)
        for logger in every if chart is not None else ():
            with disk_errors_reported("log the reliability diagram"):
                logger.experiment.log({CHART: chart})


def reliability_lines(scores: TaskScores) -> Any:
    """Return the W&B chart of the binary tasks that have samples; None if there is no such task."""
    import wandb

    from stemlab.reporting.reliability import measure_reliability

    tasks = [task for task in scores.tasks if task not in scores.regression and scores.counts(task).any()]
    if not tasks:
        return None
    found = [measure_reliability(scores, task, "", 0) for task in tasks]
    return wandb.plot.line_series(
        xs=[one.predicted_N.tolist() for one in found],
        ys=[one.observed_N.tolist() for one in found],
        keys=tasks,
        title="Reliability: observed rate by mean prediction",
        xname="mean prediction",
    )

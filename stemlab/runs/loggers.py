"""Loggers of a run: CSV by default, W&B for users who are logged in, TensorBoard and MLflow if configured."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pytorch_lightning.loggers import Logger, WandbLogger

from stemlab.config.limits import LIMITED
from stemlab.config.resolve import flatten
from stemlab.errors import StemlabError
from stemlab.runs.environment import is_first_process
from stemlab.runs.epochs_from_one import EpochCSVLogger, EpochTensorBoardLogger
from stemlab.runs.mlflow_logger import build_mlflow_logger
from stemlab.runs.wandb_artifacts import log_artifacts
from stemlab.runs.wandb_logger import build_wandb_logger, disk_errors_reported, wandb_mode


def build_loggers(
    config: Mapping[str, Any], run_dir: Path, sample: bool, sweep_id: str | None, limited: bool = False
) -> list[Logger]:
    """Return the loggers of a run; all of them write into its directory.

    Args:
        config: resolved config of the run.
        run_dir: run directory.
        sample: whether the data is synthetic; shown as a tag in W&B.
        sweep_id: group of the runs of a sweep in the W&B dashboard.
        limited: whether this run or its first stage used a part of the batches only; shown as a tag in W&B.
    """
    chosen, flat = config["logger"], flatten(config)
    loggers: list[Logger] = []
    if chosen["csv"]:
        # no name and no version: Lightning would count directories, a race between processes and between runs
        loggers.append(EpochCSVLogger(run_dir, name="", version="", flush_logs_every_n_steps=1))
    if chosen["tensorboard"]:
        loggers.append(_tensorboard(flat, run_dir))
    marks = ["SAMPLE"] * sample + [LIMITED] * limited
    if chosen["mlflow"]:
        loggers.append(build_mlflow_logger(config, flat, marks, sweep_id))
    mode = wandb_mode(chosen["wandb"])
    if mode is not None:
        with disk_errors_reported("start"):
            loggers.append(build_wandb_logger(config, flat, run_dir, mode, marks, sweep_id))
    return loggers


def _tensorboard(flat: Mapping[str, Any], run_dir: Path) -> Logger:
    try:
        logger = EpochTensorBoardLogger(run_dir, name="", version="tensorboard", default_hp_metric=False)
    except ModuleNotFoundError:
        raise StemlabError("logger=tensorboard needs TensorBoard: pip install 'stemlab[tensorboard]'.") from None
    if is_first_process():
        logger.log_hyperparams({key: str(value) for key, value in flat.items()})
    return logger


def log_final(loggers: list[Logger], metrics: Mapping[str, float | None], step: int) -> None:
    """Log the metrics of the best epoch: test metrics as one point, all metrics in the W&B summary.

    Args:
        loggers: loggers of the run.
        metrics: full metric name -> value, None where undefined.
        step: number of optimiser steps.
    """
    defined = {name: value for name, value in metrics.items() if value is not None}
    test = {name: value for name, value in defined.items() if name.startswith("test/")}
    for logger in loggers if is_first_process() else []:
        logger.log_metrics(test, step=step)
        if isinstance(logger, WandbLogger):
            logger.experiment.summary.update(defined)
        logger.save()


def log_checkpoint(loggers: list[Logger], record: Mapping[str, Any], checkpoint: Path) -> None:
    """Log the best checkpoint as an artifact of the W&B run, if ``logger.wandb_artifacts`` is set."""
    if record["config"]["logger"]["wandb_artifacts"] and is_first_process():
        for logger in loggers:
            if isinstance(logger, WandbLogger):
                with disk_errors_reported("log the checkpoint as an artifact"):
                    log_artifacts(logger.experiment, record, checkpoint)


def finish_loggers(loggers: list[Logger], failed: bool, record: Mapping[str, Any] | None = None) -> None:
    """Close every logger and finish the W&B run; otherwise the next run of this process would log into it.

    Args:
        loggers: loggers of the run.
        failed: whether the run failed.
        record: record of the ended run, whose costs are written into the W&B summary.
    """
    for logger in loggers:
        logger.finalize("failed" if failed else "success")
        if isinstance(logger, WandbLogger) and is_first_process():
            with disk_errors_reported("finish its run"):
                if record is not None:
                    logger.experiment.summary.update(_costs(record))
                logger.experiment.finish(exit_code=int(failed))


def _costs(record: Mapping[str, Any]) -> dict[str, float]:
    from stemlab.reporting.collect import Run
    from stemlab.reporting.dashboard.run_values import costs

    return costs(Run(Path(), record))

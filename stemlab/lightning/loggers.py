"""Where curves go: a CSV file always, W&B for whoever is logged in, TensorBoard on demand."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from pytorch_lightning.loggers import CSVLogger, Logger, TensorBoardLogger, WandbLogger
from pytorch_lightning.utilities import rank_zero_info, rank_zero_warn

from stemlab.errors import StemlabError
from stemlab.lightning.environment import is_first_process

HINT = "W&B is off: `wandb login` turns it on, logger=wandb keeps an offline copy to sync later."


def build_loggers(config: Mapping[str, Any], run_dir: Path, sample: bool, sweep_id: str | None) -> list[Logger]:
    """Return the loggers of a run; all of them write under its directory.

    Args:
        config: resolved config of the run.
        run_dir: the run's own directory.
        sample: whether the data is synthetic; W&B shows it as a tag.
        sweep_id: groups the runs of a sweep in the W&B dashboard.
    """
    chosen = config["logger"]
    loggers: list[Logger] = []
    if chosen["csv"]:
        # no name and no version: both would count directories, which processes of one run and runs of a sweep race on
        loggers.append(CSVLogger(run_dir, name="", version="", flush_logs_every_n_steps=1))
    if chosen["tensorboard"]:
        loggers.append(_tensorboard(config, run_dir))
    mode = wandb_mode(chosen["wandb"])
    if mode is not None:
        loggers.append(_wandb(config, run_dir, mode, sample, sweep_id))
    return loggers


def wandb_mode(wanted: str) -> Literal["online", "offline"] | None:
    """Return how W&B runs here, or None for not at all; asks nobody and opens no connection.

    Args:
        wanted: ``on``, ``off``, or ``auto``: online for a user who is logged in, else not at all.
    """
    environment = os.environ.get("WANDB_MODE", "").lower()
    if wanted == "off" or environment == "disabled":
        return None
    offline = environment in ("offline", "dryrun")
    if wanted == "on":
        return "offline" if offline or not wandb_logged_in() else "online"
    if offline:
        return "offline"
    if wandb_logged_in():
        return "online"
    rank_zero_info(HINT)
    return None


def wandb_logged_in() -> bool:
    """Return whether W&B has credentials: in the environment, in ``.netrc``, or in its settings."""
    import wandb
    from wandb.sdk.lib import wbauth

    try:
        host = wandb.setup().settings.base_url
        found = wbauth.authenticate_session(host=host, source="stemlab", prompt=False, update_session=False)
    except wandb.errors.Error as error:
        rank_zero_warn(f"W&B's credentials cannot be used ({error}).")
        return False
    return found is not None


def _wandb(
    config: Mapping[str, Any], run_dir: Path, mode: Literal["online", "offline"], sample: bool, sweep_id: str | None
) -> Logger:
    model, dataset, seed = config["model"]["name"], config["dataset"]["name"], config["seed"]
    tags = [model, dataset, f"seed{seed}", *config["tags"], *(["SAMPLE"] if sample else [])]
    # `mode` goes to wandb.init: Lightning's offline=True would switch the whole process offline through WANDB_MODE
    logger = WandbLogger(
        name=f"{dataset}/{model}/seed{seed}",
        project=config["logger"]["wandb_project"],
        entity=config["logger"]["wandb_entity"],
        save_dir=run_dir,
        group=sweep_id,
        job_type="train",
        tags=list(dict.fromkeys(tags)),
        mode=mode,
    )
    if is_first_process():
        _start(logger, config, mode)
    return logger


def _start(logger: WandbLogger, config: Mapping[str, Any], mode: str) -> None:
    """Begin the W&B run now, so that a server out of reach is noticed before the training and does not end it."""
    import wandb

    try:
        logger.log_hyperparams(flatten(config))
    except wandb.errors.Error as error:
        if mode == "offline":
            raise
        rank_zero_warn(f"W&B cannot be reached ({error}); this run is kept offline in its directory.")
        logger._wandb_init["mode"] = "offline"
        logger.log_hyperparams(flatten(config))


def _tensorboard(config: Mapping[str, Any], run_dir: Path) -> Logger:
    try:
        logger = TensorBoardLogger(run_dir, name="", version="tensorboard", default_hp_metric=False)
    except ModuleNotFoundError:
        raise StemlabError("logger=tensorboard needs an extra package: pip install 'stemlab[tensorboard]'.") from None
    if is_first_process():
        logger.log_hyperparams({k: str(v) for k, v in flatten(config).items()})
    return logger


def flatten(config: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return nested settings under dotted names (``model.net.embedding_dim``), as dashboards compare them."""
    flat: dict[str, Any] = {}
    for key, value in config.items():
        if isinstance(value, Mapping):
            flat |= flatten(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = value
    return flat


def log_final(loggers: list[Logger], metrics: Mapping[str, float | None], step: int) -> None:
    """Log the metrics of the best epoch: test metrics as a point, all of them in W&B's summary.

    Args:
        loggers: the run's loggers.
        metrics: full names -> values, None where undefined.
        step: optimiser steps taken.
    """
    defined = {name: value for name, value in metrics.items() if value is not None}
    test = {name: value for name, value in defined.items() if name.startswith("test/")}
    for logger in loggers:
        logger.log_metrics(test, step=step)
        if isinstance(logger, WandbLogger):
            logger.experiment.summary.update(defined)
        logger.save()


def finish_loggers(loggers: list[Logger], failed: bool) -> None:
    """Close every logger; W&B's run too, or the next run of this process would silently be written into it."""
    for logger in loggers:
        logger.finalize("failed" if failed else "success")
    if any(isinstance(logger, WandbLogger) for logger in loggers) and is_first_process():
        import wandb

        wandb.finish(exit_code=int(failed))

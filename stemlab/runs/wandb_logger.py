"""Weights & Biases: online for whoever is logged in, offline on demand, never a question and never a surprise."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from pytorch_lightning.loggers import Logger, WandbLogger
from pytorch_lightning.utilities import rank_zero_info, rank_zero_warn

from stemlab.config.cross_checks import effective_stage
from stemlab.runs.environment import is_first_process

WANDB_OFF_HINT = "W&B is off: `wandb login` turns it on, logger=wandb keeps an offline copy to sync later."
WandbMode = Literal["online", "offline"]


def wandb_mode(wanted: str) -> WandbMode | None:
    """Return how W&B runs here, or None for not at all; asks nobody and opens no connection.

    ``WANDB_MODE`` of the environment is obeyed and never set.

    Args:
        wanted: ``on``, ``off``, or ``auto``: online for a user who is logged in, else not at all.
    """
    environment = os.environ.get("WANDB_MODE", "").lower()
    if wanted == "off" or environment == "disabled":
        return None
    if environment in ("offline", "dryrun"):
        return "offline"
    if wandb_logged_in():
        return "online"
    if wanted == "on":
        return "offline"
    rank_zero_info(WANDB_OFF_HINT)
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


def build_wandb_logger(
    config: Mapping[str, Any], flat: Mapping[str, Any], run_dir: Path, mode: WandbMode, sample: bool, group: str | None
) -> Logger:
    """Begin a W&B run in the run directory and return its logger; other processes than the first get an idle one.

    Args:
        config: resolved config of the run.
        flat: the same with dotted names, as the dashboard's columns.
        run_dir: the run's own directory.
        mode: from ``wandb_mode``.
        sample: whether the data is synthetic.
        group: sweep of the run, or what its two stages share, if any.
    """
    model, dataset, seed = config["model"]["name"], config["dataset"]["name"], config["seed"]
    stage = [name] if (name := effective_stage(config)) else []
    tags = [model, dataset, f"seed{seed}", *stage, *config["tags"], *(["SAMPLE"] if sample else [])]
    project = config["logger"]["wandb_project"]
    if not is_first_process():
        return WandbLogger(project=project, save_dir=run_dir)
    wanted = {
        "project": project,
        "entity": config["logger"]["wandb_entity"],
        "dir": str(run_dir),
        "name": "/".join([dataset, model, *stage, f"seed{seed}"]),
        "group": group,
        "job_type": "train",
        "tags": list(dict.fromkeys(tags)),
        "config": dict(flat),
    }
    run = _init_run(wanted, mode)
    run.define_metric("trainer/global_step")
    run.define_metric("*", step_metric="trainer/global_step", step_sync=True)
    return WandbLogger(project=project, save_dir=run_dir, experiment=run)


def _init_run(wanted: Mapping[str, Any], mode: WandbMode) -> Any:
    """Begin before the training, so that a server out of reach is noticed at once and does not end the run."""
    import wandb

    # the bar on the terminal is not for W&B's log; a run left open by a failed job must not be continued
    settings = wandb.Settings(console="off", silent=True, init_timeout=60)
    try:
        run = wandb.init(**wanted, mode=mode, settings=settings, reinit="finish_previous")
    except wandb.errors.Error as error:
        if mode == "offline":
            raise
        rank_zero_warn(f"W&B cannot be reached ({error}); this run is kept offline in its directory.")
        return _init_run(wanted, "offline")
    if mode == "online":
        rank_zero_info(f"W&B: {run.url}")
    else:
        rank_zero_info(f"W&B: offline, `wandb sync {Path(run.dir).parent}` uploads it.")
    return run

"""Weights & Biases: online for users who are logged in, offline if configured; never prompts."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

from pytorch_lightning.loggers import Logger
from pytorch_lightning.utilities import rank_zero_info, rank_zero_warn

from stemlab.config.cross_checks import effective_stage
from stemlab.data.io.output_file import write_failure
from stemlab.runs.environment import is_first_process
from stemlab.runs.epochs_from_one import EpochWandbLogger
from stemlab.runs.wandb_artifacts import save_run_id, saved_run_id

WANDB_OFF_HINT = "W&B is off: `wandb login` turns it on, logger=wandb writes an offline copy to sync later."
WandbMode = Literal["online", "offline"]
# settings of the current folder, and of SageMaker, which has its own store of credentials
_FURTHER_SETTINGS = (Path("wandb/settings"), Path(".wandb/settings"), Path("/opt/ml/input/config/hyperparameters.json"))


@contextmanager
def disk_errors_reported(activity: str) -> Iterator[None]:
    """Print an error of the operating system as a warning: a training does not end because of the files of W&B.

    Args:
        activity: what W&B does in the block, such as ``finish its run``.
    """
    try:
        yield
    except OSError as error:
        rank_zero_info(f"warning: W&B could not {activity} ({write_failure(error)}); the training goes on without it.")


def wandb_mode(setting: str) -> WandbMode | None:
    """Return the W&B mode, or None if W&B is off; does not prompt and opens no connection.

    The environment variables ``WANDB_MODE=disabled`` and ``WANDB_MODE=offline`` have priority over ``on`` and ``auto``.

    Args:
        setting: ``on``, ``off``, or ``auto``: online if the user is logged in, else off.
    """
    environment = os.environ.get("WANDB_MODE", "").lower()
    if setting == "off" or environment == "disabled":
        return None
    if environment in ("offline", "dryrun"):
        return "offline"
    if wandb_logged_in():
        return "online"
    if setting == "on":
        return "offline"
    rank_zero_info(WANDB_OFF_HINT)
    return None


def wandb_logged_in() -> bool:
    """Return whether W&B has credentials in the environment, in ``.netrc`` or in its settings."""
    if not _may_have_credentials():
        return False
    import wandb
    from wandb.sdk.lib import wbauth

    try:
        host = wandb.setup().settings.base_url
        session = wbauth.authenticate_session(host=host, source="stemlab", prompt=False, update_session=False)
    except wandb.errors.Error as error:
        rank_zero_warn(f"the W&B credentials are not valid ({error}).")
        return False
    return session is not None


def _may_have_credentials() -> bool:
    """Return False if nothing exists from which W&B reads credentials; importing W&B to ask it takes half a second."""
    if "wandb" in sys.modules or "NETRC" in os.environ or any(name.startswith("WANDB_") for name in os.environ):
        return True
    home = Path.home()
    files = [home / ".netrc", home / "_netrc", home / ".config" / "wandb" / "settings", *_FURTHER_SETTINGS]
    return any(file.exists() for file in files)


def build_wandb_logger(
    config: Mapping[str, Any],
    flat: Mapping[str, Any],
    run_dir: Path,
    mode: WandbMode,
    marks: Sequence[str],
    group: str | None,
) -> Logger:
    """Start a W&B run in the run directory and return its logger; ranks other than 0 get a logger without a run.

    A directory whose training is resumed continues its W&B run: the id is kept in ``wandb/run_id.txt``.

    Args:
        config: resolved config of the run.
        flat: the same config with dotted names, for the columns of the dashboard.
        run_dir: run directory.
        mode: result of ``wandb_mode``.
        marks: tags SAMPLE (synthetic data) and LIMITED (part of the batches), where they apply.
        group: sweep of the run, or the group of its two stages, if any.
    """
    model, dataset, seed = config["model"]["name"], config["dataset"]["name"], config["seed"]
    stage = [name] if (name := effective_stage(config)) else []
    tags = [model, dataset, f"seed{seed}", *stage, *config["tags"], *marks]
    project = config["logger"]["wandb_project"]
    if not is_first_process():
        return EpochWandbLogger(project=project, save_dir=run_dir)
    arguments = {
        "project": project,
        "entity": config["logger"]["wandb_entity"],
        "dir": str(run_dir),
        "name": "/".join([dataset, model, *stage, f"seed{seed}"]),
        "group": group,
        "job_type": "train",
        "tags": list(dict.fromkeys(tags)),
        "config": dict(flat),
    }
    known = saved_run_id(run_dir)
    if known is not None:
        arguments |= {"id": known, **({"resume": "allow"} if mode == "online" else {})}
    run = _init_run(arguments, mode)
    with disk_errors_reported("keep the id of its run, which a resumed training continues"):
        save_run_id(run_dir, run.id)
    run.define_metric("trainer/global_step")
    run.define_metric("*", step_metric="trainer/global_step", step_sync=True)
    return EpochWandbLogger(project=project, save_dir=run_dir, experiment=run)


def _init_run(arguments: Mapping[str, Any], mode: WandbMode) -> Any:
    """Start the W&B run; if the server cannot be reached, start it offline."""
    import wandb

    # console off: W&B would log the progress bar; finish_previous: a run left open by a failed job must not continue
    settings = wandb.Settings(console="off", silent=True, init_timeout=60)
    try:
        run = wandb.init(**arguments, mode=mode, settings=settings, reinit="finish_previous")
    except wandb.errors.Error as error:
        if mode == "offline":
            raise
        rank_zero_warn(f"the W&B server cannot be reached ({error}); this run is logged offline in its directory.")
        return _init_run(arguments, "offline")
    if mode == "online":
        rank_zero_info(f"W&B: {run.url}")
    else:
        rank_zero_info(f"W&B: offline, `wandb sync {Path(run.dir).parent}` uploads it.")
    return run

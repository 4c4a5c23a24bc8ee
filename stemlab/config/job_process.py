"""A sweep's job that needs several processes runs in a process tree of its own.

Lightning starts the other ranks by repeating the command line. Inside a sweep each rank would then repeat the whole
sweep, with its own sampler and its own directories, and train something else than rank 0. So the parent of a sweep
never trains such a job: it starts the job as a single run and reads the result from the run record.
"""

from __future__ import annotations

import json
import math
import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn

from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode

from stemlab.errors import StemlabError

RANK_VARIABLES = (
    "LOCAL_RANK",
    "RANK",
    "WORLD_SIZE",
    "LOCAL_WORLD_SIZE",
    "GROUP_RANK",
    "NODE_RANK",
    "MASTER_ADDR",
    "MASTER_PORT",
)
# Settings of the parent only: the job gets its directory and its mode from here, and needs no sweeper.
NOT_FORWARDED = ("hydra.mode", "hydra.run.", "hydra.sweep.", "hydra.sweeper", "hydra.launcher", "hydra/")
GRACE_SECONDS = 10.0


def process_count(trainer: Mapping[str, Any]) -> int:
    """Return how many processes ``trainer.devices`` asks for (-1: one for each GPU of this machine)."""
    devices = trainer["devices"]
    if isinstance(devices, list):
        return len(devices)
    if devices == -1:
        import torch

        return torch.cuda.device_count()
    return int(devices)


def is_delegated(trainer: Mapping[str, Any]) -> bool:
    """Whether this process is the parent of a sweep and the job needs several processes."""
    in_sweep = HydraConfig.initialized() and HydraConfig.get().mode == RunMode.MULTIRUN
    return in_sweep and process_count(trainer) > 1


def run_job(objective: str, module: str = "stemlab.train") -> float:
    """Run the current job of a sweep as ``python -m <module>`` in a process group of its own.

    Args:
        objective: the metric in the job's ``record.json`` that goes to the sweeper.
        module: the command.

    Returns:
        The objective; nan where the record says undefined.

    Raises:
        StemlabError: the job failed; what it had to say is on standard error.
    """
    config = HydraConfig.get()
    run_dir = Path(config.runtime.output_dir)
    status = run_group([sys.executable, "-m", module, *job_arguments(config)])
    if status != 0:
        raise StemlabError(f"the job in {run_dir} failed with exit status {status}; its own message is above.")
    return read_objective(run_dir, objective)


def job_arguments(config: Any) -> list[str]:
    """Return the command line of one job, from the ``hydra`` node of its config."""
    extra = [source.path for source in config.runtime.config_sources if source.provider == "command-line"]
    forwarded = [word for word in config.overrides.hydra if not word.lstrip("+~").startswith(NOT_FORWARDED)]
    return [
        "--config-name",
        str(config.job.config_name),
        *(word for path in extra for word in ("--config-dir", str(path))),
        *config.overrides.task,
        *forwarded,
        f"hydra.run.dir={quoted(str(config.runtime.output_dir))}",
        "hydra.mode=RUN",
    ]


def quoted(text: str) -> str:
    """As Hydra reads a text with any characters in it."""
    return "'" + text.replace("'", "\\'") + "'"


def run_group(arguments: list[str]) -> int:
    """Run a command in its own process group without rank variables; an interruption ends the whole group."""
    environment = {key: value for key, value in os.environ.items() if key not in RANK_VARIABLES}
    child = subprocess.Popen(arguments, env=environment, start_new_session=True)
    before = signal.signal(signal.SIGTERM, _leave)
    try:
        return child.wait()
    except BaseException:
        _end(child)
        raise
    finally:
        signal.signal(signal.SIGTERM, before)


def _leave(number: int, frame: FrameType | None) -> NoReturn:
    """A cluster's or a shell's ``kill`` must reach the job too."""
    sys.exit(128 + number)


def _end(child: subprocess.Popen[bytes]) -> None:
    """Ask, then insist: the ranks of the job belong to the same group."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(child.pid, number)
            child.wait(GRACE_SECONDS)
        except subprocess.TimeoutExpired:
            continue
        except ProcessLookupError:
            return


def read_objective(run_dir: Path, objective: str) -> float:
    """Return ``metrics[objective]`` of the run's record.

    Raises:
        StemlabError: the run left no record, or the record has no such metric.
    """
    path = run_dir / "record.json"
    if not path.is_file():
        raise StemlabError(f"the job in {run_dir} left no record.json.")
    metrics = json.loads(path.read_text(encoding="utf-8"))["metrics"]
    if objective not in metrics:
        raise StemlabError(f"objective={objective!r} is not in {path}, which has: {', '.join(sorted(metrics))}.")
    return math.nan if metrics[objective] is None else float(metrics[objective])

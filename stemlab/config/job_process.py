"""Run each multi-process job of a sweep in its own process tree.

Lightning starts the other ranks by repeating the command line. Inside a sweep, each rank would repeat the whole sweep,
with its own sampler and directories, and train other settings than rank 0. So the parent of a sweep does not train
such a job: it starts a single run and reads the objective from the run record.
"""

from __future__ import annotations

import json
import math
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn

from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode

from stemlab.config.gpu_locks import reserved_gpus
from stemlab.config.override_text import quote_override
from stemlab.config.process_watch import REPORTS, child_environment
from stemlab.errors import StemlabError

_RANK_VARIABLES = (
    "SLURM_NTASKS",  # Lightning would expect srun to have started the other ranks
    "LOCAL_RANK",
    "RANK",
    "WORLD_SIZE",
    "LOCAL_WORLD_SIZE",
    "GROUP_RANK",
    "NODE_RANK",
    "MASTER_ADDR",
    "MASTER_PORT",
    REPORTS,
)
# Settings of the parent only: the job gets its directory and mode from run_job_in_subprocess and has no sweeper.
_NOT_FORWARDED = ("hydra.mode", "hydra.run.", "hydra.sweep.", "hydra.sweeper", "hydra.launcher", "hydra/")
GRACE_SECONDS = 10.0
"""Time that a job has to write a checkpoint after a signal."""
_REQUEUE_SECONDS = 60.0
"""SLURM ends a requeued job within its KillWait, 30 seconds by default."""


def process_count(trainer: Mapping[str, Any]) -> int:
    """Return the number of processes on all machines."""
    return processes_per_node(trainer) * int(trainer.get("num_nodes", 1))


def processes_per_node(trainer: Mapping[str, Any]) -> int:
    """Return the number of processes of ``trainer.devices`` (-1: one per GPU of this machine)."""
    devices = trainer["devices"]
    if isinstance(devices, list):
        return len(devices)
    if devices == -1:
        import torch

        return torch.cuda.device_count()
    return int(devices)


def needs_own_processes(trainer: Mapping[str, Any]) -> bool:
    """Return whether a job of a sweep must not be trained in this process.

    This process is the parent of the sweep and the job needs several processes, or it belongs to a launcher of Hydra,
    which may use it for several jobs.
    """
    in_sweep = HydraConfig.initialized() and HydraConfig.get().mode == RunMode.MULTIRUN
    return in_sweep and (process_count(trainer) > 1 or uses_launcher())


def uses_launcher() -> bool:
    """Return whether another launcher than Hydra's basic one runs the jobs of the sweep."""
    return not str(HydraConfig.get().launcher._target_).endswith("BasicLauncher")


def run_job_in_subprocess(
    objective: str, module: str = "stemlab.train", trainer: Mapping[str, Any] | None = None
) -> float:
    """Run the current job of a sweep as ``python -m <module>`` in its own process group.

    Args:
        objective: metric of the job's ``record.json`` that is returned to the sweeper.
        module: module of the command.
        trainer: group ``trainer`` of the config; a job of joblib's launcher gets GPUs that no other job uses.

    Returns:
        The objective; nan if it is undefined.

    Raises:
        StemlabError: the job failed; its error message is on standard error.
    """
    config = HydraConfig.get()
    run_dir = Path(config.runtime.output_dir)
    arguments = [sys.executable, "-m", module, *job_arguments(config)]
    if trainer is not None and trainer["accelerator"] == "gpu" and "Joblib" in str(config.launcher._target_):
        with reserved_gpus(Path(str(config.sweep.dir)), processes_per_node(trainer)) as gpus:
            status = run_process_group(arguments, {"CUDA_VISIBLE_DEVICES": gpus})
    else:
        status = run_process_group(arguments)
    if status != 0:
        raise StemlabError(f"the job in {run_dir} failed with exit status {status}; its error message is above.")
    if interrupted_by_slurm(run_dir):
        _wait_for_slurm(run_dir)
    return read_objective(run_dir, objective)


def interrupted_by_slurm(run_dir: Path) -> bool:
    """Return whether the run in a directory, which has ended, was interrupted as a part of this SLURM job."""
    path = run_dir / "record.json"
    if "SLURM_JOB_ID" not in os.environ or not path.is_file():
        return False
    return bool(json.loads(path.read_text(encoding="utf-8"))["status"] == "interrupted")


def _wait_for_slurm(run_dir: Path) -> NoReturn:
    """Wait for SLURM to end this process, so that a job that was requeued has no result.

    Raises:
        StemlabError: SLURM has not ended this process.
    """
    signal.signal(signal.SIGTERM, _exit_on_signal)  # submitit ignores SIGTERM
    time.sleep(_REQUEUE_SECONDS)
    raise StemlabError(f"the job in {run_dir} was interrupted and requeued, but SLURM did not end this process.")


def job_arguments(config: Any) -> list[str]:
    """Return the command line of one job, from the ``hydra`` node of its config."""
    extra = [source.path for source in config.runtime.config_sources if source.provider == "command-line"]
    forwarded = [word for word in config.overrides.hydra if not word.lstrip("+~").startswith(_NOT_FORWARDED)]
    return [
        "--config-name",
        str(config.job.config_name),
        *(word for path in extra for word in ("--config-dir", str(path))),
        *config.overrides.task,
        *forwarded,
        f"hydra.run.dir={quote_override(str(config.runtime.output_dir))}",
        "hydra.mode=RUN",
    ]


def run_process_group(arguments: list[str], variables: Mapping[str, str] | None = None) -> int:
    """Run a command in its own process group, without rank variables; the group ends with this process."""
    environment = single_process_environment() | dict(variables or {})
    before = signal.signal(signal.SIGTERM, _exit_on_signal)
    try:
        with usr1_left_to_jobs():
            child = subprocess.Popen(arguments, env=environment, start_new_session=True)
            try:
                return child.wait()
            except BaseException:
                end_process_group(child)
                raise
    finally:
        signal.signal(signal.SIGTERM, before)


@contextmanager
def usr1_left_to_jobs() -> Iterator[None]:
    """Context in which this process of a SLURM job ignores SIGUSR1, which SLURM sends to its child processes, too.

    They save a checkpoint and requeue the SLURM job.
    """
    if "SLURM_JOB_ID" not in os.environ:
        yield
        return
    before = signal.signal(signal.SIGUSR1, _do_nothing)  # child processes would inherit SIG_IGN
    try:
        yield
    finally:
        signal.signal(signal.SIGUSR1, before)


def single_process_environment() -> dict[str, str]:
    """Return the variables of a job without those of a rank; the job ends when this process ends."""
    return child_environment({key: value for key, value in os.environ.items() if key not in _RANK_VARIABLES})


def _exit_on_signal(number: int, frame: FrameType | None) -> NoReturn:
    """Turn SIGTERM (a cluster's or shell's ``kill``) into an exit, so that the job is ended, too."""
    sys.exit(128 + number)


def _do_nothing(number: int, frame: FrameType | None) -> None:
    """Ignore a signal."""


def end_process_group(child: subprocess.Popen[bytes]) -> None:
    """Send SIGINT, then SIGTERM, then SIGKILL to the process group of the job, which holds all its ranks."""
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
        StemlabError: there is no record, or the record lacks the metric.
    """
    path = run_dir / "record.json"
    if not path.is_file():
        raise StemlabError(f"the job in {run_dir} wrote no record.json.")
    metrics = json.loads(path.read_text(encoding="utf-8"))["metrics"]
    if objective not in metrics:
        raise StemlabError(
            f"objective={objective!r} is not a metric of {path}, which has: {', '.join(sorted(metrics))}."
        )
    return math.nan if metrics[objective] is None else float(metrics[objective])

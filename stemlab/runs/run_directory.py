"""What a run directory holds, and whether a training starts in it, resumes the run in it, or is refused."""

from __future__ import annotations

import os
import shlex
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from pytorch_lightning.utilities import rank_zero_info

from stemlab.callbacks.checkpoint import BEST, LAST
from stemlab.config.override_text import override_text
from stemlab.config.resolve import config_hash
from stemlab.data.io.zip_checksums import find_zip_damage
from stemlab.errors import StemlabError
from stemlab.reporting.record import RECORD, read_record
from stemlab.reporting.run_lock import run_lock
from stemlab.runs.checkpoint_io import require_checkpoint_file
from stemlab.runs.environment import is_first_process, slurm_job

_SLURM_PATTERN = "hpc_ckpt_*.ckpt"  # written by Lightning when SLURM requeues a job
_OWN_FILES = (RECORD, "metrics*.csv", _SLURM_PATTERN, "checkpoints", "wandb", "tensorboard")


@dataclass(frozen=True, slots=True)
class Start:
    """How a training starts.

    Attributes:
        checkpoint: checkpoint to resume from; None: from initial weights.
        in_place: whether the checkpoint belongs to the run in the same directory.
        finished: record of the run, if it is finished and nothing is left to do.
        warning: sentence about damaged checkpoints that were skipped, if any.
    """

    checkpoint: Path | None = None
    in_place: bool = False
    finished: Mapping[str, Any] | None = None
    warning: str | None = None


def plan_start(config: Mapping[str, Any]) -> Start:
    """Return how the training of a config starts in its run directory; nothing is written.

    Args:
        config: validated, plain config; ``resume`` and ``ckpt_path`` are read.

    Raises:
        StemlabError: the directory holds another run, ``resume=must`` finds nothing to resume, or ``ckpt_path`` is no
            file.
    """
    directory = Path(config["paths"]["output_dir"])
    if directory.exists() and not directory.is_dir():
        raise StemlabError(f"hydra.run.dir={directory} is a file: choose a directory.")
    if config["overwrite"] and config["resume"] != "never":
        raise StemlabError(f"overwrite=true deletes the run that resume={config['resume']} resumes: set one of them.")
    resume = config["resume"]
    if config["ckpt_path"] and (resume == "never" or not _checkpoint_files(directory)):
        return _start_from(Path(config["ckpt_path"]).absolute(), config, directory)
    if resume == "never" and not _is_requeued(directory):
        refuse_used(config, directory)
        return Start()
    record = _record(directory)
    if record.get("status") == "finished" and record.get("config_hash") == config_hash(config):
        return Start(finished=record)
    checkpoint, damaged = usable_checkpoint(directory)
    if checkpoint is None:
        if resume == "must":
            raise StemlabError(f"resume=must: {directory} holds no checkpoint; resume=auto starts from the beginning.")
        return Start()
    return Start(checkpoint, in_place=True, warning=skipped_words(checkpoint, damaged) if damaged else None)


def _start_from(checkpoint: Path, config: Mapping[str, Any], directory: Path) -> Start:
    require_checkpoint_file(checkpoint)
    in_place = directory.resolve() in checkpoint.resolve().parents
    if not in_place:
        refuse_used(config, directory)
    return Start(checkpoint, in_place)


def refuse_used(config: Mapping[str, Any], directory: Path) -> None:
    """Refuse a directory that holds a run, unless ``overwrite`` is set; other processes of the same run pass.

    Raises:
        StemlabError: the directory holds checkpoints or the record of a finished run.
    """
    if not is_first_process() or config["overwrite"]:
        return
    status = _record(directory).get("status")
    if status == "finished" or _checkpoint_files(directory):
        if status != "finished":
            usable_checkpoint(directory)
        found = f"a run with status {status}" if status else "checkpoints of a run"
        raise StemlabError(
            f"{directory} holds {found}: resume=auto resumes it, overwrite=true deletes it, another hydra.run.dir "
            "keeps it."
        )


def resume_command(config: Mapping[str, Any], overrides: Sequence[str]) -> str:
    """Return the command that resumes the run of a config.

    Args:
        config: config of the run.
        overrides: its overrides of the command line; without any, the config is read from the run directory.
    """
    directory = override_text("hydra.run.dir", Path(config["paths"]["output_dir"]))
    dropped = ("resume=", "overwrite=", "hydra.run.dir=")
    words = [word for word in overrides if not word.startswith(dropped)] or [f"resume_from={directory}"]
    return shlex.join(["python", "-m", "stemlab.train", *words, f"hydra.run.dir={directory}", "resume=auto"])


def check_run_directory(config: Mapping[str, Any]) -> str | None:
    """Refuse a directory that is in use or holds another run, before anything is written to it.

    Returns:
        What is said of a finished run in a directory in which nothing can be written, else None: Hydra would fail.

    Raises:
        StemlabError: as ``plan_start``, or another process trains in the directory.
    """
    directory = Path(config["paths"]["output_dir"])
    start = plan_start(config)
    if start.finished is not None:
        return None if os.access(directory, os.W_OK) else finished_words(directory)
    if is_first_process() and directory.is_dir():
        with run_lock(directory):
            pass
    return None


def finished_words(directory: Path) -> str:
    """Return the sentence about a run that is finished and started again."""
    return f"{directory} holds the finished run of these settings: nothing is left to do."


def clear(directory: Path) -> None:
    """Delete record, checkpoints and curves of the run in a directory; other files are kept."""
    for pattern in _OWN_FILES:
        for path in directory.glob(pattern):
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink()


def newest_checkpoint(directory: Path) -> Path | None:
    """Return the intact checkpoint of a run directory with the most training steps, or None; report damaged ones."""
    checkpoint, damaged = intact_checkpoint(directory)
    if checkpoint is not None and damaged:
        rank_zero_info(f"warning: {skipped_words(checkpoint, damaged)}")
    return checkpoint


def intact_checkpoint(directory: Path) -> tuple[Path | None, list[Path]]:
    """Return the intact checkpoint with the most training steps, and the damaged ones that would have priority.

    The last checkpoint has priority over others with as many steps. A file that cannot be read is damaged.
    """
    steps = {path: _steps(path) for path in _checkpoint_files(directory)}
    damaged = [path for path, number in steps.items() if number is None]
    readable = {path: number for path, number in steps.items() if number is not None}
    for path in sorted(readable, key=lambda one: -readable[one]):  # a stable sort
        if find_zip_damage(path) is None:
            return path, damaged
        damaged.append(path)
    return None, damaged


def skipped_words(checkpoint: Path, damaged: Sequence[Path]) -> str:
    """Return the sentence that names damaged checkpoints and the one that is used instead."""
    return f"{', '.join(map(str, damaged))} cannot be read or is damaged: resuming from {checkpoint}."


def _checkpoint_files(directory: Path) -> list[Path]:
    folder = directory / "checkpoints"
    return [path for path in (folder / LAST, *directory.glob(_SLURM_PATTERN), folder / BEST) if path.is_file()]


def usable_checkpoint(directory: Path) -> tuple[Path | None, list[Path]]:
    """Return ``intact_checkpoint``; raise StemlabError if there are checkpoints and all of them are damaged."""
    checkpoint, damaged = intact_checkpoint(directory)
    if checkpoint is None and damaged:
        raise StemlabError(
            f"{damaged[0]} cannot be read or is damaged, and {directory} holds no intact checkpoint: copy it again, or "
            "delete it to start from the beginning."
        )
    return checkpoint, damaged


def _steps(path: Path) -> int | None:
    """Return the training steps of a checkpoint; None if it cannot be read."""
    try:
        content = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
        return int(content["global_step"])
    except Exception:
        return None


def _record(directory: Path) -> dict[str, Any]:
    try:
        return read_record(directory) if (directory / RECORD).is_file() else {}
    except StemlabError:
        return {}


def _is_requeued(directory: Path) -> bool:
    """Return whether SLURM started this job before in the same directory."""
    job = slurm_job()
    return job is not None and _record(directory).get("slurm_job") == job


def earlier_resumptions(checkpoint: Path) -> list[dict[str, Any]]:
    """Return the resumptions in the record of the run that wrote a checkpoint; empty if there is no record."""
    folder = checkpoint.parent
    directory = folder.parent if folder.name == "checkpoints" else folder
    found = _record(directory).get("resumptions")
    return list(found) if isinstance(found, list) else []


def set_curves_aside(directory: Path, epoch: int) -> None:
    """Rename the curves of the interrupted part of a run, because the CSV logger would delete the file.

    Args:
        directory: run directory.
        epoch: last epoch of the curves, from 1.
    """
    curves = directory / "metrics.csv"
    if curves.is_file():
        names = (f"metrics_until_epoch_{epoch}{suffix}.csv" for suffix in ["", *(f"_{n}" for n in range(2, 1000))])
        curves.replace(next(path for name in names if not (path := directory / name).exists()))

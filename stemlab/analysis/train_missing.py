"""Training of the runs that an analysis needs: found by config hash, trained if missing.

``dataset=tiktok models=[ple,stem]`` requests these models and a single-task model of every task, each trained in its
own process. A finished run with the same config below ``<runs_dir>/transfer`` is reused; an interrupted run is resumed
from its last checkpoint.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from stemlab.config.compose import CommandLine, KeyOrigins, compose_job, separate_hydra
from stemlab.config.composition_messages import COMPOSITION_ERRORS, composition_message
from stemlab.config.job_process import run_process_group
from stemlab.config.override_text import override_text
from stemlab.config.resolve import config_hash
from stemlab.config.validate import validate
from stemlab.errors import Interrupted, StemlabError
from stemlab.reporting.record import RECORD, read_record

_FOLDER = "transfer"
_JOB = "job.json"
_SINGLE = "single_task"
_CHECKPOINTS = Path("checkpoints")


def train_missing_runs(config: Mapping[str, Any]) -> list[Path]:
    """Train the runs of ``models`` on ``dataset`` that are missing; return all run directories, single-task first.

    All configs are validated before the first training starts.

    Args:
        config: config of the command, with ``dataset``, ``models``, ``train``, ``seed`` and ``paths``.

    Raises:
        StemlabError: ``dataset`` without ``models`` or the reverse, an invalid config, or a training that failed.
    """
    if not training_requested(config):
        return []
    jobs = {run_directory(config, job, name): (name, overrides, job) for name, overrides, job in plan_trainings(config)}
    missing = [folder for folder in jobs if not is_finished(folder, jobs[folder][2])]
    print(f"{len(jobs) - len(missing)} of {len(jobs)} runs are finished already")
    for number, folder in enumerate(missing, start=1):
        name, overrides, job = jobs[folder]
        print(f"training {name} ({number} of {len(missing)}) in {folder}", flush=True)
        _train(folder, overrides, job)
    return list(jobs)


def training_requested(config: Mapping[str, Any]) -> bool:
    """Return whether the command names models to train.

    Raises:
        StemlabError: only one of ``models`` and ``dataset`` is given, or ``train`` without ``models``.
    """
    if config["models"] and not config.get("dataset"):
        raise StemlabError("models=[...] needs a dataset for the training: add dataset=<name>.")
    for key in ("dataset", "train"):
        if config.get(key) and not config["models"]:
            raise StemlabError(f"{key}=... applies to models that are trained: add models=[ple,stem].")
    return bool(config["models"])


def plan_trainings(config: Mapping[str, Any]) -> list[tuple[str, list[str], dict[str, Any]]]:
    """Return name, overrides and plain config of every training.

    Raises:
        StemlabError: a config is invalid, or the dataset has no tasks.
    """
    tasks = config["dataset"].get("tasks")
    if not tasks:
        raise StemlabError(f"dataset={config['dataset']['name']} has no list of tasks to train.")
    models = [name for name in dict.fromkeys(config["models"]) if name != _SINGLE]
    choices = {
        f"{_SINGLE}_{task}": [f"model={_SINGLE}", f"model.task={override_text('model.task', task)}"] for task in tasks
    }
    choices |= {model: [f"model={model}"] for model in models}
    trainings = []
    with separate_hydra("train"):
        for name, choice in choices.items():
            typed = [f"{key}={override_text(key, value)}" for key, value in (config["train"] or {}).items()]
            overrides = [*choice, *typed, f"seed={config['seed']}"]
            job = _compose(overrides) | {"dataset": dict(config["dataset"])}
            job["paths"] = job["paths"] | {"data_dir": config["paths"]["data_dir"]}
            validate("train", job, KeyOrigins("train", overrides))
            trainings.append((name, overrides, job))
    return trainings


def _compose(overrides: list[str]) -> dict[str, Any]:
    try:
        return compose_job("train", overrides)
    except COMPOSITION_ERRORS as error:
        raise StemlabError(composition_message(error, CommandLine("train", tuple(overrides)), overrides)) from error


def run_directory(config: Mapping[str, Any], job: Mapping[str, Any], name: str) -> Path:
    """Return the run directory of a training; equal configs give the same directory."""
    folder = Path(config["paths"]["runs_dir"]) / _FOLDER / str(job["dataset"]["name"])
    return folder / f"{name}-{config_hash(job)}"


def is_finished(folder: Path, job: Mapping[str, Any]) -> bool:
    """Return whether the directory holds a finished run with this config and its best checkpoint."""
    if not (folder / RECORD).is_file() or not (folder / _CHECKPOINTS / "best.ckpt").is_file():
        return False
    record = read_record(folder)
    return record.get("status") == "finished" and record.get("config_hash") == config_hash(job)


def _train(folder: Path, overrides: Sequence[str], job: dict[str, Any]) -> None:
    last = _move_interrupted(folder)
    folder.mkdir(parents=True)
    job["paths"] = job["paths"] | {"output_dir": str(folder)}
    (folder / _JOB).write_text(
        json.dumps({"overrides": list(overrides), "config": job | {"ckpt_path": last}}, indent=1)
    )
    status = run_process_group([sys.executable, "-m", __spec__.name if __spec__ else __name__, str(folder / _JOB)])
    if status != 0:
        raise StemlabError(
            f"the training in {folder} failed with exit status {status}; its error message is printed above."
        )


def _move_interrupted(folder: Path) -> str | None:
    """Move an interrupted run to ``<folder>.part1``, ``.part2``, ...; return its last checkpoint, if it has one."""
    if not folder.exists():
        return None
    number = 1
    while (part := folder.with_name(f"{folder.name}.part{number}")).exists():
        number += 1
    folder.rename(part)
    last = part / _CHECKPOINTS / "last.ckpt"
    return str(last) if last.is_file() else None


def main() -> None:
    """Run the training described by the job file in the first command-line argument."""
    from stemlab.config.cli import fail
    from stemlab.runs.stages import training_run

    job = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    try:
        training_run(job["config"], job["overrides"], None).run()
    except StemlabError as error:
        fail(str(error))
    except Interrupted as error:
        sys.exit(error.status)


if __name__ == "__main__":
    main()

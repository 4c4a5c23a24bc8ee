"""Runs that an analysis needs and nobody named: found by the hash of their config, trained where they are missing.

``dataset=tiktok models=[ple,stem]`` means these models and a single-task model of every task, each in a process of its
own. A finished run below ``<runs_dir>/transfer`` with the same config is taken as it is; half a run goes on after its
last whole epoch.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from hydra.core.global_hydra import GlobalHydra

from stemlab.config.compose import CommandLine, Origins, plain_job, session
from stemlab.config.composition_messages import COMPOSITION_ERRORS, sentence
from stemlab.config.job_process import quoted, run_group
from stemlab.config.resolve import config_hash
from stemlab.config.validate import validate
from stemlab.errors import StemlabError
from stemlab.reporting.record import RECORD, read_record

FOLDER = "transfer"
JOB = "job.json"
SINGLE = "single_task"
_CHECKPOINTS = Path("checkpoints")


def trained(config: Mapping[str, Any]) -> list[Path]:
    """Return the run directories of ``models`` on ``dataset``, single-task models first.

    Every config is checked before the first training.

    Args:
        config: of the command: ``dataset``, ``models``, ``train``, ``seed``, ``paths``.

    Raises:
        StemlabError: one of these without the others, a config that cannot run, or a training that failed.
    """
    if not asked(config):
        return []
    jobs = {place(config, job, name): (name, words, job) for name, words, job in planned(config)}
    missing = [folder for folder in jobs if not is_finished(folder, jobs[folder][2])]
    print(f"{len(jobs) - len(missing)} of {len(jobs)} runs are there")
    for number, folder in enumerate(missing, start=1):
        name, words, job = jobs[folder]
        print(f"training {name} ({number} of {len(missing)}) in {folder}", flush=True)
        _train(folder, words, job)
    return list(jobs)


def asked(config: Mapping[str, Any]) -> bool:
    """Return whether runs are to be trained.

    Raises:
        StemlabError: that was said by half.
    """
    if config["models"] and not config.get("dataset"):
        raise StemlabError("models=[...] are trained on a dataset: write dataset=<name>, too.")
    for key in ("dataset", "train"):
        if config.get(key) and not config["models"]:
            raise StemlabError(f"{key}=... is for the models that are trained: name them, models=[ple,stem].")
    return bool(config["models"])


def planned(config: Mapping[str, Any]) -> list[tuple[str, list[str], dict[str, Any]]]:
    """Return name, words and plain config of every training.

    Raises:
        StemlabError: a config cannot run.
    """
    tasks = config["dataset"].get("tasks")
    if not tasks:
        raise StemlabError(f"dataset={config['dataset']['name']} has no list of tasks to train.")
    models = [name for name in dict.fromkeys(config["models"]) if name != SINGLE]
    named = {f"{SINGLE}_{task}": [f"model={SINGLE}", f"model.task={task}"] for task in tasks}
    named |= {model: [f"model={model}"] for model in models}
    found = []
    with _inner_session():
        for name, chosen in named.items():
            words = [*chosen, *map(word, (config["train"] or {}).items()), f"seed={config['seed']}"]
            job = _composed(words) | {"dataset": dict(config["dataset"])}
            job["paths"] = job["paths"] | {"data_dir": config["paths"]["data_dir"]}
            validate("train", job, Origins("train", words))
            found.append((name, words, job))
    return found


def _composed(words: list[str]) -> dict[str, Any]:
    try:
        return plain_job("train", words)
    except COMPOSITION_ERRORS as error:
        raise StemlabError(sentence(error, CommandLine("train", tuple(words)), words)) from error


@contextmanager
def _inner_session() -> Iterator[None]:
    """Compose configs of another command while this one, which Hydra started, goes on."""
    running = GlobalHydra.instance()
    before, running.hydra = running.hydra, None
    try:
        with session(CommandLine("train")):
            yield
    finally:
        running.hydra = before


def word(setting: tuple[str, Any]) -> str:
    """Return ``key=value`` as it would be typed."""
    key, value = setting
    if isinstance(value, str) and not re.fullmatch(r"[\w.-]+", value):
        return f"{key}={quoted(value)}"
    return f"{key}={value if isinstance(value, str) else json.dumps(value)}"


def place(config: Mapping[str, Any], job: Mapping[str, Any], name: str) -> Path:
    """Return the run directory of a training; equal configs have the same one."""
    folder = Path(config["paths"]["runs_dir"]) / FOLDER / str(job["dataset"]["name"])
    return folder / f"{name}-{config_hash(job)}"


def is_finished(folder: Path, job: Mapping[str, Any]) -> bool:
    """Return whether the directory holds a finished run of that config, with its best checkpoint."""
    if not (folder / RECORD).is_file() or not (folder / _CHECKPOINTS / "best.ckpt").is_file():
        return False
    record = read_record(folder)
    return record.get("status") == "finished" and record.get("config_hash") == config_hash(job)


def _train(folder: Path, words: Sequence[str], job: dict[str, Any]) -> None:
    last = _aside(folder)
    folder.mkdir(parents=True)
    job["paths"] = job["paths"] | {"output_dir": str(folder)}
    (folder / JOB).write_text(json.dumps({"words": list(words), "config": job | {"ckpt_path": last}}, indent=1))
    status = run_group([sys.executable, "-m", __spec__.name if __spec__ else __name__, str(folder / JOB)])
    if status != 0:
        raise StemlabError(f"the training in {folder} failed with exit status {status}; its own message is above.")


def _aside(folder: Path) -> str | None:
    """Move half a run to ``<folder>.part1``, ``.part2``, ... and return its last checkpoint, if it has one."""
    if not folder.exists():
        return None
    number = 1
    while (part := folder.with_name(f"{folder.name}.part{number}")).exists():
        number += 1
    folder.rename(part)
    last = part / _CHECKPOINTS / "last.ckpt"
    return str(last) if last.is_file() else None


def main() -> None:
    """Train the job in the file that the first word names."""
    from stemlab.config.cli import fail
    from stemlab.runs.stages import training_run

    job = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    try:
        training_run(job["config"], job["words"], None).run()
    except StemlabError as error:
        fail(str(error))


if __name__ == "__main__":
    main()

"""Find run records, leave out what cannot stand in a table, and say so.

A record is read from a run directory, from any directory above it, or from a committed copy (``compact``).
"""

from __future__ import annotations

import glob
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from stemlab.config.cross_checks import effective_tasks
from stemlab.config.resolve import NOT_HASHED
from stemlab.errors import StemlabError
from stemlab.reporting.record import RECORD, read_record, write_json

# A file under a directory is a record if it is called this, or lies among committed copies of records.
COPIES = "records"
KEPT = (
    *("schema", "command", "status", "sample", "model", "dataset", "seed", "tags", "config", "config_hash"),
    *("dataset_fingerprint", "dataset_manifest", "code", "packages", "hardware", "parameters", "time", "throughput"),
    *("memory", "best", "epochs_run", "metrics", "warnings"),
)
KEPT_OF_MANIFEST = ("name", "rows", "positives", "split", "fingerprint", "sample", "spec")
SOMETIMES = ("stage", "stage1", "paper_selection")  # models trained in two stages; the published selection rule
NEEDED = ("model", "dataset", "seed", "sample", "config", "metrics", "dataset_fingerprint")


@dataclass(frozen=True)
class Run:
    """One finished run.

    Attributes:
        path: its record.
        record: what the record says.
    """

    path: Path
    record: Mapping[str, Any]

    @cached_property
    def tasks(self) -> tuple[str, ...]:
        """Labels it was trained on; none on a sequence dataset, whose metrics have no task."""
        return tuple(effective_tasks(self.record["config"])) if "tasks" in self.record["config"]["dataset"] else ()

    @cached_property
    def scenarios(self) -> tuple[str, ...]:
        """Names of the dataset's scenarios; none where its rows have no scenario."""
        spec = (self.record.get("dataset_manifest") or {}).get("spec") or {}
        return tuple(spec.get("scenarios", ()))

    @property
    def alone(self) -> bool:
        """Whether it was trained on one label of several: such runs stand together in one row."""
        return len(self.tasks) == 1 < len(self.record["config"]["dataset"].get("tasks", ()))

    @cached_property
    def settings(self) -> dict[str, Any]:
        """Flat config without seeds, paths and the like; equal for runs that may be averaged."""
        flat = flatten({k: v for k, v in self.record["config"].items() if k not in (*NOT_HASHED, "seed", "objective")})
        ends = ("dataset.seed", *(f"dataset.{name}" for name in NOT_HASHED))
        told = {key: value for key, value in flat.items() if not key.startswith(ends)}
        told["model.task"] = "each" if self.alone else None
        told.pop("callbacks.paper_selection", None)  # it adds to the record and changes nothing in it
        if not self.scenarios:
            told.pop("model.scenario_feature", None)
        return {"model.loss_reduction": "sum", **told} if self.tasks else told  # records of earlier versions: sum

    def value(self, key: str) -> Any:
        """Return a config value (``dataset.sample.conflict``) or a part of the record (``hardware.cpu``).

        ``model`` and ``dataset`` are their names.
        """
        for source in (self.record["config"], self.record):
            found = _dig(source, key)
            if found is not None and not isinstance(found, Mapping):
                return found
        return None

    def metric(self, name: str) -> float | None:
        """Return a metric by its full name, None if undefined or not measured."""
        found = self.record["metrics"].get(name)
        return None if found is None else float(found)


@dataclass
class Collection:
    """What was found.

    Attributes:
        runs: finished runs, one a model, settings and seed.
        skipped: a sentence for each record left out.
    """

    runs: list[Run] = field(default_factory=list)
    skipped: list[str] = field(default_factory=list)


def collect(places: Sequence[str], only: Mapping[str, Any] | None = None) -> Collection:
    """Read all records in the given places.

    Args:
        places: directories, record files, or patterns (``runs/tiktok/*``).
        only: keys and the values a run must have (``{"dataset": "tiktok"}``).

    Raises:
        StemlabError: a place does not exist, or there is no usable record in any of them.
    """
    found = Collection()
    for path in record_paths(places):
        try:
            run = Run(path, _checked(read_record(path), path))
        except StemlabError as error:
            found.skipped.append(str(error))
            continue
        if all(run.value(key) == value for key, value in (only or {}).items()):
            found.runs.append(run)
    _leave_out_repeated(found)
    if not found.runs:
        told = f" Left out: {' '.join(found.skipped[:3])}" if found.skipped else ""
        raise StemlabError(f"there is no finished run in {', '.join(places)}.{told}")
    return found


def record_paths(places: Sequence[str]) -> list[Path]:
    """Return the record files in the given places, sorted, each once."""
    paths: set[Path] = set()
    for place in places:
        matches = [Path(match) for match in glob.glob(place, recursive=True)]
        if not matches:
            raise StemlabError(f"runs: there is nothing at {place}.")
        for match in matches:
            paths.update(_below(match) if match.is_dir() else [match])
    return sorted(paths)


def compact(record: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a table needs of a record, without anything about the machine's folders."""
    kept = {key: record.get(key) for key in KEPT} | {key: record[key] for key in SOMETIMES if key in record}
    config = {key: value for key, value in record["config"].items() if key not in NOT_HASHED}
    config["dataset"] = {key: value for key, value in config["dataset"].items() if key not in NOT_HASHED}
    manifest = record.get("dataset_manifest") or {}
    kept["config"] = config
    kept["dataset_manifest"] = {key: manifest[key] for key in KEPT_OF_MANIFEST if key in manifest}
    kept["hardware"] = {k: v for k, v in (record.get("hardware") or {}).items() if k != "platform"}
    kept["warnings"] = []
    if isinstance(first := kept.get("stage1"), Mapping):
        kept["stage1"] = {key: value for key, value in first.items() if key not in ("directory", "checkpoint")}
    if config["model"].get("init_from"):
        config["model"] = {**config["model"], "init_from": Path(config["model"]["init_from"]).name}
    return kept


def save_copies(runs: Sequence[Run], folder: Path) -> list[Path]:
    """Write compact copies of the runs' records, to be committed beside the table they make."""
    paths = []
    for run in runs:
        task = f"_{run.tasks[0]}" if run.alone else ""
        name = f"{run.record['model']}{task}_seed{run.record['seed']}_{run.record['config_hash'][:6]}.json"
        write_json(folder / name, compact(run.record))
        paths.append(folder / name)
    return paths


def flatten(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return nested values under dotted keys."""
    flat: dict[str, Any] = {}
    for key, value in values.items():
        flat.update(flatten(value, f"{prefix}{key}.") if isinstance(value, Mapping) else {f"{prefix}{key}": value})
    return flat


def _below(directory: Path) -> list[Path]:
    copies = COPIES in directory.resolve().parts
    return [path for path in directory.rglob("*.json") if path.name == RECORD or copies]


def _dig(source: Mapping[str, Any], key: str) -> Any:
    value: Any = source
    for part in key.split("."):
        if not isinstance(value, Mapping) or part not in value:
            return None
        value = value[part]
    return value


def _checked(record: dict[str, Any], path: Path) -> dict[str, Any]:
    missing = [key for key in NEEDED if record.get(key) is None]
    if record.get("status") != "finished":
        raise StemlabError(f"{path} is left out: its run is {record.get('status') or 'of unknown status'}.")
    if missing:
        raise StemlabError(f"{path} is left out: it lacks {', '.join(missing)}.")
    return record


def _leave_out_repeated(found: Collection) -> None:
    """Of runs that are the same experiment with the same seed keep the last started: a mean counts a seed once."""
    latest: dict[tuple[str, ...], Run] = {}
    for run in sorted(found.runs, key=lambda run: str((run.value("time.started"), run.path))):
        key = tuple(map(str, (run.record["seed"], run.tasks, run.settings, run.record["dataset_fingerprint"])))
        if key in latest:
            found.skipped.append(f"{latest[key].path} is left out: {run.path} repeats it.")
        latest[key] = run
    found.runs = sorted(latest.values(), key=lambda run: run.path)

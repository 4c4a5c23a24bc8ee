"""Collection of run records for tables; records that cannot be used are skipped with a message.

A record is read from a run directory, from any directory above it, from a compact copy (``compact``), or from a file
of many (``record_lines``).
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from stemlab.config.cross_checks import effective_tasks
from stemlab.config.dotted_keys import value_at
from stemlab.config.resolve import NOT_HASHED, flatten
from stemlab.data.io.output_file import complete_file, write_errors
from stemlab.errors import StemlabError
from stemlab.reporting.path_patterns import matching_paths
from stemlab.reporting.record import RECORD, file_name, read_record, write_json
from stemlab.reporting.record_lines import SUFFIX, read_record_lines
from stemlab.reporting.recorded_config import complete
from stemlab.reporting.scores import scores_path

_COPIES_FOLDER = "records"  # below a folder of this name every JSON file is a record
_KEPT = (
    *("schema", "command", "status", "sample", "model", "dataset", "seed", "tags", "config", "config_hash"),
    *("dataset_fingerprint", "dataset_manifest", "code", "packages", "hardware", "parameters", "time", "throughput"),
    *("memory", "best", "epochs_run", "metrics", "warnings"),
)
_KEPT_OF_MANIFEST = ("name", "rows", "positives", "split", "fingerprint", "sample", "spec")
# of two-stage models; of the selection on the test split as in released code; of save_scores=true
_OPTIONAL = ("stage", "stage1", "paper_selection", "scores")
_REQUIRED: dict[str, type] = {
    **{"model": str, "dataset": str, "seed": int, "sample": bool},
    **{"config": dict, "metrics": dict, "dataset_fingerprint": str},
}


@dataclass(frozen=True)
class Run:
    """One finished run.

    Attributes:
        path: path of the record.
        record: content of the record.
    """

    path: Path
    record: Mapping[str, Any]

    @cached_property
    def config(self) -> dict[str, Any]:
        """The run's config; a setting that the record lacks has its default."""
        return complete(self.record["config"])

    @cached_property
    def tasks(self) -> tuple[str, ...]:
        """Trained tasks; empty on a sequence dataset, whose metrics have no task."""
        return tuple(effective_tasks(self.config)) if "tasks" in self.config["dataset"] else ()

    @cached_property
    def scenarios(self) -> tuple[str, ...]:
        """Scenarios of the dataset; empty if it has none."""
        spec = (self.record.get("dataset_manifest") or {}).get("spec") or {}
        return tuple(spec.get("scenarios", ()))

    @property
    def alone(self) -> bool:
        """Whether the run was trained on one of several tasks; such runs share one row of a table."""
        return len(self.tasks) == 1 < len(self.config["dataset"].get("tasks", ()))

    @cached_property
    def settings(self) -> dict[str, Any]:
        """Flat config without seeds, paths and other keys without effect; equal for runs that may be averaged."""
        flat = flatten({k: v for k, v in self.config.items() if k not in (*NOT_HASHED, "seed", "objective")})
        ends = ("dataset.seed", *(f"dataset.{name}" for name in NOT_HASHED))
        settings = {key: value for key, value in flat.items() if not key.startswith(ends)}
        settings["model.task"] = "each" if self.alone else None
        settings.pop("callbacks.paper_selection", None)  # adds keys to the record, changes no metric
        if not self.scenarios:
            settings.pop("model.scenario_feature", None)
        if limits := (self.record.get("stage1") or {}).get("limits"):
            settings["stage1.limits"] = limits
        return settings

    def value(self, key: str) -> Any:
        """Return a config value (``dataset.sample.conflict``) or a record value (``hardware.cpu``); ``None`` if absent.

        The keys ``model`` and ``dataset`` give their names.
        """
        for source in (self.config, self.record):
            found = value_at(source, key)
            if found is not None and not isinstance(found, Mapping):
                return found
        return None

    def metric(self, name: str) -> float | None:
        """Return a metric by its full name; ``None`` if it is undefined or was not measured."""
        found = self.record["metrics"].get(name)
        return None if found is None else float(found)


@dataclass
class CollectedRuns:
    """Usable runs and messages about skipped records.

    Attributes:
        runs: finished runs, one per combination of model, settings and seed.
        skipped: one sentence per skipped record.
    """

    runs: list[Run] = field(default_factory=list)
    skipped: list[str] = field(default_factory=list)


def collect(patterns: Sequence[str], only: Mapping[str, Any] | None = None) -> CollectedRuns:
    """Read all records at the given paths.

    Args:
        patterns: directories, record files, or glob patterns (``runs/tiktok/*``).
        only: required values by key (``{"dataset": "tiktok"}``).

    Raises:
        StemlabError: a path does not exist, or no usable record is found.
    """
    found = CollectedRuns()
    for path in record_paths(patterns):
        try:
            records = records_at(path)
        except StemlabError as error:
            found.skipped.append(str(error))
            continue
        for place, record in records:
            try:
                run = Run(place, _checked(record, place))
            except StemlabError as error:
                found.skipped.append(str(error))
                continue
            if all(run.value(key) == value for key, value in (only or {}).items()):
                found.runs.append(run)
    _skip_repeated(found)
    if not found.runs:
        skipped = f" Skipped: {' '.join(found.skipped[:3])}" if found.skipped else ""
        raise StemlabError(f"there is no finished run in {', '.join(patterns)}.{skipped}")
    return found


def record_paths(patterns: Sequence[str]) -> list[Path]:
    """Return the record files at the given paths, sorted and unique.

    Raises:
        StemlabError: a path or pattern matches nothing.
    """
    paths: set[Path] = set()
    for pattern in patterns:
        matches = matching_paths(pattern)
        if not matches:
            raise StemlabError(f"runs: there is nothing at {pattern}; no file or directory matches.")
        for match in matches:
            paths.update(_below(match) if match.is_dir() else [match])
    return sorted(paths)


def records_at(path: Path) -> list[tuple[Path, dict[str, Any]]]:
    """Return the records of a file with the place of each: the file, or ``file.jsonl#0003`` for the third of many.

    Raises:
        StemlabError: the file cannot be read as run records.
    """
    if path.suffix != SUFFIX:
        return [(path, read_record(path))]
    return [(Path(f"{path}#{number:04}"), record) for number, record in enumerate(read_record_lines(path), 1)]


def compact(record: Mapping[str, Any]) -> dict[str, Any]:
    """Return a copy of a record with the keys that tables need, without local paths."""
    kept = {key: record.get(key) for key in _KEPT} | {key: record[key] for key in _OPTIONAL if key in record}
    config = {key: value for key, value in record["config"].items() if key not in NOT_HASHED}
    config["dataset"] = {key: value for key, value in config["dataset"].items() if key not in NOT_HASHED}
    manifest = record.get("dataset_manifest") or {}
    if config["model"].get("init_from"):
        config["model"] = {**config["model"], "init_from": Path(config["model"]["init_from"]).name}
    kept["dataset_manifest"] = {key: manifest[key] for key in _KEPT_OF_MANIFEST if key in manifest}
    kept["hardware"] = {k: v for k, v in (record.get("hardware") or {}).items() if k != "platform"}
    kept["warnings"] = []
    if resumed := record.get("resumptions"):  # the times of a resumed run are those of its last part
        kept["resumptions"] = [{"epoch": one.get("epoch")} for one in resumed]
    if isinstance(first := kept.get("stage1"), Mapping):
        kept["stage1"] = {key: value for key, value in first.items() if key not in ("directory", "checkpoint")}
    kept["config"] = _without_folders(config)
    return kept


def _without_folders(value: Any) -> Any:
    """Replace absolute paths in a config by the names of their files."""
    if isinstance(value, Mapping):
        return {key: _without_folders(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_without_folders(inner) for inner in value]
    return Path(value).name if isinstance(value, str) and Path(value).is_absolute() else value


def save_copies(runs: Sequence[Run], folder: Path, with_scores: bool = False) -> list[Path]:
    """Write compact copies of the records of the runs, to be committed with the table made from them.

    Args:
        runs: the runs.
        folder: folder of the copies.
        with_scores: also copy the saved test scores, under the name of the copy with the ending ``.npz``.
    """
    paths = []
    for run in runs:
        task = f"_{run.tasks[0]}" if run.alone else ""
        name = f"{run.record['model']}{task}_seed{run.record['seed']}_{str(run.record['config_hash'])[:6]}.json"
        paths.append(folder / file_name(name))
        write_json(paths[-1], compact(run.record))
        if with_scores:
            with complete_file(scores_path(paths[-1])) as part, write_errors(part):
                shutil.copyfile(scores_path(run.path), part)
    return paths


def _below(directory: Path) -> list[Path]:
    copies = _COPIES_FOLDER in directory.resolve().parts
    lines = directory.rglob(f"*{SUFFIX}") if copies else ()
    return [*(path for path in directory.rglob("*.json") if path.name == RECORD or copies), *lines]


def _checked(record: dict[str, Any], path: Path) -> dict[str, Any]:
    missing = [key for key in _REQUIRED if record.get(key) is None]
    if record.get("status") != "finished":
        raise StemlabError(f"{path} is skipped: the status of its run is {record.get('status') or 'unknown'}.")
    if missing:
        raise StemlabError(f"{path} is skipped: it lacks {', '.join(missing)}.")
    wrong = [key for key, kind in _REQUIRED.items() if not isinstance(record[key], kind)]
    wrong += [name for name, value in record["metrics"].items() if not _is_metric(value)] if not wrong else []
    if wrong:
        raise StemlabError(f"{path} is skipped: its {wrong[0]} has the wrong type.")
    return record


def _is_metric(value: Any) -> bool:
    return value is None or (isinstance(value, int | float) and not isinstance(value, bool))


def _skip_repeated(found: CollectedRuns) -> None:
    """Keep the run that was started last among runs with equal settings, seed and dataset."""
    latest: dict[tuple[str, ...], Run] = {}
    for run in sorted(found.runs, key=lambda run: str((run.value("time.started"), run.path))):
        key = tuple(map(str, (run.record["seed"], run.tasks, run.settings, run.record["dataset_fingerprint"])))
        if key in latest:
            found.skipped.append(f"{latest[key].path} is skipped: {run.path} repeats it.")
        latest[key] = run
    found.runs = sorted(latest.values(), key=lambda run: run.path)

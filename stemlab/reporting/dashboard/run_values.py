"""Values of each run on a dashboard: metrics, costs, settings, curves; read from its record and metrics.csv."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from stemlab.config.limits import run_limits
from stemlab.config.resolve import NOT_HASHED, flatten
from stemlab.reporting.collect import Run, record_paths, records_at
from stemlab.reporting.costs import Cost, cost_of
from stemlab.reporting.dashboard.analysis_values import RESULTS_FILE
from stemlab.reporting.dashboard.rounding import rounded

_COSTS: Mapping[str, Cost] = {
    "cost/parameters": "parameters",
    "cost/embedding_parameters": "embedding",
    "cost/samples_per_s": "samples/s",
    "cost/seconds": "fit",
    "cost/memory_mb": "memory",
    "cost/seconds_to_best": "best",
}


def find_runs(patterns: Sequence[str], only: Mapping[str, Any]) -> tuple[list[Run], list[str]]:
    """Return all runs below some paths, also those in progress, failed or interrupted, and why records are left out.

    Raises:
        StemlabError: a path does not exist.
    """
    runs, skipped = [], []
    for path in record_paths(patterns):
        if path.name == RESULTS_FILE:
            continue
        try:
            for place, record in records_at(path):
                run = Run(place, record)
                known = isinstance(record.get("config"), Mapping) and isinstance(record.get("metrics"), Mapping)
                if known and all(run.value(key) == value for key, value in only.items()):
                    runs.append(run)
                elif not known:
                    skipped.append(f"{place} is left out: it has no config or metrics.")
        except Exception as error:  # a record that is being written, or is of another version
            skipped.append(f"{path} is left out: {error}")
    return runs, skipped


def run_entry(run: Run, group: str, curve_names: Sequence[str]) -> dict[str, Any]:
    """Return the values of a run for the page.

    Args:
        run: the run.
        group: title of its leaderboard.
        curve_names: names or patterns of the metrics whose curves are shown.
    """
    record = run.record
    model, seed = record["model"], record["seed"]
    stage, task = record.get("stage"), f"({run.tasks[0]})" if run.alone else None
    return {
        "name": " ".join(filter(None, (model, task, stage, f"seed {seed}"))),
        "group": group,
        "model": model if task is None else f"{model} {task}",
        "dataset": record["dataset"],
        "seed": seed,
        "tags": list(record.get("tags") or ()),
        "status": record.get("status") or "unknown",
        "sample": bool(record.get("sample")),
        "limited": bool(run_limits(run.config, record.get("stage1"))),
        "epochs": record.get("epochs_run"),
        "started": (record.get("time") or {}).get("started"),
        "first_stage": (record.get("stage1") or {}).get("directory"),
        "data": str(record.get("dataset_fingerprint") or "")[:8],
        "path": str(run.path.parent),
        "file": run.path.name,
        "metrics": {name: rounded(value) for name, value in record["metrics"].items() if value is not None},
        "cost": costs(run),
        "settings": settings_of(run),
        "curves": read_curves(run.path.parent / "metrics.csv", curve_names),
    }


def costs(run: Run) -> dict[str, float]:
    """Return the costs of a run that its record has; memory in MB (10^6 bytes), times in seconds."""
    found = {name: cost_of(run, cost) for name, cost in _COSTS.items()}
    return {name: rounded(value) for name, value in found.items() if value is not None}


def settings_of(run: Run) -> dict[str, Any]:
    """Return the flat config of a run, without paths."""
    flat = flatten({key: value for key, value in run.record["config"].items() if key not in NOT_HASHED})
    ends = tuple(f"dataset.{name}" for name in NOT_HASHED)
    return {key: value for key, value in flat.items() if not key.startswith(ends)}


def split_settings(entries: Iterable[dict[str, Any]]) -> dict[str, Any]:
    """Return the settings that all runs have in common, and remove them from the entries."""
    entries = list(entries)
    if not entries:
        return {}
    first = entries[0]["settings"]
    common = {
        key: value
        for key, value in first.items()
        if all(key in entry["settings"] and entry["settings"][key] == value for entry in entries)
    }
    for entry in entries:
        entry["settings"] = {key: value for key, value in entry["settings"].items() if key not in common}
    return common


def read_curves(path: Path, names: Sequence[str]) -> dict[str, list[list[float]]]:
    """Return metric -> [epoch, value] pairs of the metrics that match a name or pattern, the last value per epoch."""
    found: dict[str, dict[float, float]] = {}
    with suppress(OSError, csv.Error, UnicodeDecodeError), path.open(encoding="utf-8", newline="") as file:
        reader = csv.DictReader(file)
        chosen = [key for key in reader.fieldnames or () if any(fnmatchcase(key, name) for name in names)]
        for row in reader:
            for key in chosen:
                with suppress(TypeError, ValueError):
                    found.setdefault(key, {})[float(row["epoch"])] = float(row[key])
    return {key: [[epoch, rounded(value)] for epoch, value in points.items()] for key, points in found.items()}

"""Separate tables for runs that cannot be compared: other datasets or protocols, SAMPLE data, LIMITED runs."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from stemlab.config.limits import LIMITED, run_limits
from stemlab.config.own_metrics import own_metric_nodes
from stemlab.config.resolve import flatten
from stemlab.reporting.collect import Run
from stemlab.reporting.record import file_name

_SHOWN_SETTINGS = 3
_NO_PROTOCOL = tuple(
    f"dataset.{key}" for key in ("_target_", "batch_size", "eval_batch_size", "residence", "reading", "window_rows")
)
_TASK_METRICS = ("auc", "gauc", "logloss", "rmse", "mae", "xauc")
_USUAL_METRICS = ("auc", "gauc", "logloss")
_CUTOFFS = 2  # of HR and NDCG in a table without chosen metrics


@dataclass(frozen=True)
class ReportPart:
    """Runs of one table.

    Attributes:
        title: dataset, SAMPLE, LIMITED, settings of the dataset that differ from another part of the same name.
        runs: its runs.
    """

    title: str
    runs: list[Run]

    @property
    def file_suffix(self) -> str:
        """End of the name of its files."""
        return "_" + file_name(re.sub(r"[^\w.=-]+", "_", self.title.lower()).strip("_"))


def separate(runs: Sequence[Run], by: Sequence[str]) -> list[ReportPart]:
    """Return the parts of a report, by name; one part if all runs can be compared.

    Args:
        runs: finished runs.
        by: keys that define a row. Runs on several datasets stay in one table if it has ``dataset``, and variants of a
            dataset if it has a setting of the dataset.
    """
    groups: dict[str, list[Run]] = {}
    for run in runs:
        groups.setdefault(json.dumps(_key(run, by), sort_keys=True, default=str), []).append(run)
    names = [_name(group[0], by) for group in groups.values()]
    parts = []
    for name, group in zip(names, groups.values(), strict=True):
        others = [other[0] for title, other in zip(names, groups.values(), strict=True) if title == name]
        parts.append(ReportPart(f"{name}{_difference(group[0], others)}", group))
    return sorted(parts, key=lambda part: part.title)


def metrics_of(runs: Sequence[Run], split: str) -> list[str]:
    """Return the metrics of a table for which none were chosen: those of tasks, else HR and NDCG, as measured."""
    measured = {name.split("/")[1] for run in runs for name in run.record["metrics"] if name.startswith(f"{split}/")}
    cutoffs = sorted(int(name.partition("@")[2]) for name in measured if name.startswith("ndcg@"))[:_CUTOFFS]
    own = [
        full
        for name in dict.fromkeys(name for run in runs for name in own_metric_nodes(run.config))
        for full in (name, *(f"{name}@{k}" for k in cutoffs))
        if full in measured
    ]
    found = [metric for metric in (*_TASK_METRICS, *own) if metric in measured]
    if found != own or not measured:
        return found or list(_USUAL_METRICS)
    ranking = [f"{metric}@{k}" for k in cutoffs for metric in ("hr", "ndcg")]
    return [metric for metric in (*ranking, *own) if metric in measured] or sorted(measured)


def _key(run: Run, by: Sequence[str]) -> list[Any]:
    marks = [run.record["sample"], _is_limited(run)]
    if "dataset" in by:
        return marks
    if any(key.startswith("dataset.") for key in by):
        return [run.record["dataset"], *marks]
    dataset = run.config["dataset"]
    protocol = [run.record["dataset_fingerprint"], dataset.get("evaluation"), dataset.get("tasks")]
    return [run.record["dataset"], *marks, *protocol]


def _is_limited(run: Run) -> bool:
    return bool(run_limits(run.config, run.record.get("stage1")))


def _name(run: Run, by: Sequence[str]) -> str:
    words = [] if "dataset" in by else [str(run.record["dataset"])]
    words += ["SAMPLE"] * bool(run.record["sample"]) + [LIMITED] * _is_limited(run)
    return " ".join(words or ["real data"])


def _difference(run: Run, others: Sequence[Run]) -> str:
    """Return the settings of the dataset in which a part differs from others of its name; else its fingerprint."""
    if len(others) < 2:
        return ""
    every = [_dataset_settings(other) for other in others]
    keys = sorted({key for one in every for key in one})
    differing = [key for key in keys if len({str(one.get(key)) for one in every}) > 1][:_SHOWN_SETTINGS]
    own = _dataset_settings(run)
    words = [f"{key}={own.get(key)}" for key in differing] + [f"data {str(run.record['dataset_fingerprint'])[:8]}"]
    return f" ({', '.join(words)})"


def _dataset_settings(run: Run) -> Mapping[str, Any]:
    own = flatten({"dataset": run.config["dataset"]})
    return {key: value for key, value in run.settings.items() if key in own and key not in _NO_PROTOCOL}

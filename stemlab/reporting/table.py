"""Report tables: runs grouped into rows, with mean and standard deviation over seeds.

A row never mixes synthetic with real data, two prepared datasets, or two settings. Runs that differ make separate rows,
and a warning names the difference.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from statistics import fmean, stdev
from typing import Any, Literal

from stemlab.config.limits import run_limits
from stemlab.config.objective_checks import label_kinds, wrong_kind
from stemlab.config.own_metrics import own_directions
from stemlab.config.task_selection_checks import selects_per_task
from stemlab.errors import StemlabError, nearest
from stemlab.reporting.collect import Run
from stemlab.reporting.costs import COSTS, USUAL_COSTS, cost_of
from stemlab.reporting.row_tests import row_tests
from stemlab.reporting.significance import Significance
from stemlab.types import Mode

_SHOWN_KEYS = 12  # in a warning
_DATA = "data"  # pseudo-setting: fingerprint of the prepared dataset
Scenarios = Literal["pooled", "each"]


@dataclass(frozen=True)
class Stat:
    """A quantity over seeds.

    Attributes:
        values: seed -> value; undefined values are absent.
    """

    values: Mapping[int, float]

    @property
    def mean(self) -> float | None:
        """Mean over seeds; ``None`` without values."""
        return fmean(self.values.values()) if self.values else None

    @property
    def std(self) -> float | None:
        """Sample standard deviation (n - 1); ``None`` for fewer than two seeds."""
        return stdev(self.values.values()) if len(self.values) > 1 else None


@dataclass
class ReportRow:
    """One row of a table.

    Attributes:
        labels: key of ``by`` -> value.
        runs: runs of the row.
        stats: column (``auc/like``, ``auc/click/nl``, ``ndcg@5``) -> statistic.
        costs: name of a cost (``stemlab.reporting.costs``) -> statistic.
        differs: settings that differ from another row with the same labels (``optim.lr`` -> value).
    """

    labels: dict[str, Any]
    runs: list[Run]
    stats: dict[str, Stat]
    costs: dict[str, Stat]
    differs: dict[str, Any] = field(default_factory=dict)

    @property
    def sample(self) -> bool:
        """Whether the data are synthetic."""
        return bool(self.runs[0].record["sample"])

    @property
    def limits(self) -> dict[str, int]:
        """Limits on the batches of the runs (``limit_train_batches``); empty without a limit."""
        return run_limits(self.runs[0].config, self.runs[0].record.get("stage1"))

    @property
    def alone(self) -> bool:
        """Whether there is one network per task."""
        return self.runs[0].alone

    @property
    def per_task(self) -> bool:
        """Whether each task has the metrics of its own best epoch."""
        return selects_per_task(self.runs[0].config)

    @property
    def seeds(self) -> list[int]:
        """Seeds of the runs, ascending."""
        return sorted({int(run.record["seed"]) for run in self.runs})


@dataclass
class ReportTable:
    """Table of runs.

    Attributes:
        by: keys that define a row.
        metrics: metric names without split and task (``auc``).
        columns: one column per metric and task (``auc/like``), per metric, task and scenario (``auc/click/nl``), or per
            metric without task (``ndcg@5``).
        rows: rows.
        warnings: sentences printed below the table.
        significance: tests of the differences between the rows, or ``None``.
        own: directions of metrics of the user.
        costs: names of the cost columns that are shown; all are in CSV and JSON.
    """

    by: list[str]
    metrics: list[str]
    columns: list[str]
    rows: list[ReportRow]
    warnings: list[str]
    significance: Significance | None = None
    own: Mapping[str, Mode | None] = field(default_factory=dict)
    costs: Sequence[str] = USUAL_COSTS

    @property
    def sample(self) -> bool:
        """Whether any row is from synthetic data."""
        return any(row.sample for row in self.rows)

    @property
    def limited(self) -> bool:
        """Whether any row is from runs with a limit on their batches."""
        return any(row.limits for row in self.rows)


def build_table(
    runs: Sequence[Run],
    by: Sequence[str],
    metrics: Sequence[str],
    split: str = "test",
    order: Sequence[str] = (),
    scenarios: Scenarios = "pooled",
    level: float | None = None,
    over: Literal["seeds", "samples"] = "seeds",
) -> ReportTable:
    """Return a table.

    Args:
        runs: finished runs, each combination of settings and seed once.
        by: record or config keys that define a row (``model``, ``dataset.sample.conflict``).
        metrics: metric names, per task (``auc``, ``logloss``) or without task (``ndcg@5``).
        split: ``test`` or ``val``.
        order: labels in the order of the rows; other labels follow alphabetically.
        scenarios: ``pooled``: one column per task, over the samples of all scenarios; ``each``: one column per task and
            scenario.
        level: significance level of the tests; ``None``: no tests.
        over: whether the tests are over seeds, or over the test samples of saved scores.

    Raises:
        StemlabError: no run has a key or metric, ``scenarios="each"`` without scenarios, or saved scores are missing.
    """
    _check_keys(runs, by)
    columns = _columns(runs, metrics, split, scenarios)
    groups: dict[str, list[Run]] = {}
    for run in runs:
        groups.setdefault(json.dumps([_labels(run, by), _identity(run)], sort_keys=True, default=str), []).append(run)
    rows = [_row(group, by, columns, split) for group in groups.values()]
    position = {label: i for i, label in enumerate(order)}
    rows.sort(key=lambda row: [_sort_key(value, position) for value in (*row.labels.values(), row.seeds)])
    own = {name: mode for run in runs for name, mode in own_directions(run.config).items()}
    tests = None if level is None else row_tests(rows, columns, split, level, over, own)
    warnings = [*_mark_differences(rows), *_uneven(rows, columns)]
    return ReportTable(list(by), list(metrics), columns, rows, warnings, tests, own)


def _columns(runs: Sequence[Run], metrics: Sequence[str], split: str, scenarios: Scenarios) -> list[str]:
    """Return the columns of each metric: one per task, and one without task if a run without tasks has the metric.

    Raises:
        StemlabError: no run has the metric.
    """
    datasets = [run.record["config"]["dataset"] for run in runs]
    tasks = list(dict.fromkeys(task for dataset in datasets for task in dataset.get("tasks", ())))
    kinds = {task: kind for dataset in datasets for task, kind in label_kinds(dataset).items()}
    names = list(dict.fromkeys(f"/{name}" for run in runs for name in run.scenarios))
    if scenarios == "each" and not names:
        raise StemlabError("scenarios=each: no run has a dataset with scenarios; use scenarios=pooled.")
    columns = []
    for metric in metrics:
        having = [task for task in tasks if not kinds or wrong_kind(metric, task, tasks, kinds) is None]
        if any(metric in own_directions(run.config) for run in runs):
            having = [task for task in tasks if _stat(runs, f"{metric}/{task}", split).values]
        for_tasks = [f"{metric}/{task}{name}" for task in having for name in (names if scenarios == "each" else [""])]
        alone = [metric] if any(not run.tasks and f"{split}/{metric}" in run.record["metrics"] for run in runs) else []
        if not any(_stat(runs, name, split).values for name in (*for_tasks, *alone)):
            raise _unmeasured(runs[0], (*for_tasks, metric)[0], split)
        columns += for_tasks + alone
    return columns


def _unmeasured(run: Run, name: str, split: str) -> StemlabError:
    known = sorted({name.split("/")[1] for name in run.record["metrics"] if name.startswith(f"{split}/")})
    return StemlabError(f"metrics: no run has {split}/{name}; measured: {', '.join(known) or 'nothing'}.")


def _row(runs: list[Run], by: Sequence[str], names: Sequence[str], split: str) -> ReportRow:
    stats = {name: _stat(runs, name, split) for name in names}
    costs = {name: _cost(runs, name) for name in COSTS}
    return ReportRow(_labels(runs[0], by), runs, stats, costs)


def _stat(runs: Sequence[Run], name: str, split: str) -> Stat:
    having = [run for run in runs if _measures(run, name)]
    found = {int(run.record["seed"]): run.metric(f"{split}/{name}") for run in having}
    return Stat({seed: value for seed, value in sorted(found.items()) if value is not None})


def _measures(run: Run, name: str) -> bool:
    """Return whether a run has the task of a column, and its scenario if the column has one."""
    _, *rest = name.split("/", 2)
    if not rest:
        return not run.tasks
    return rest[0] in run.tasks and (len(rest) == 1 or rest[1] in run.scenarios)


def _cost(runs: Sequence[Run], name: str) -> Stat:
    """Return the mean cost over the runs of each seed; with one network per task, the cost of one network."""
    by_seed: dict[int, list[float]] = {}
    for run in runs:
        value = cost_of(run, name)
        if value is not None:
            by_seed.setdefault(int(run.record["seed"]), []).append(value)
    return Stat({seed: fmean(values) for seed, values in by_seed.items()})


def _labels(run: Run, by: Sequence[str]) -> dict[str, Any]:
    return {key: run.value(key) for key in by}


def _identity(run: Run) -> dict[str, Any]:
    """Return everything that must be equal within a row."""
    return {**run.settings, _DATA: str(run.record["dataset_fingerprint"])[:8], "sample": run.record["sample"]}


def _mark_differences(rows: Sequence[ReportRow]) -> list[str]:
    """Store the differing settings of rows with equal labels in the rows; return one sentence per group of rows."""
    same: dict[str, list[ReportRow]] = {}
    for row in rows:
        same.setdefault(json.dumps(row.labels, default=str), []).append(row)
    warnings = []
    for group in (group for group in same.values() if len(group) > 1):
        identities = [_identity(row.runs[0]) for row in group]
        keys = sorted({key for identity in identities for key in identity})
        differing = [key for key in keys if len({str(identity.get(key)) for identity in identities}) > 1]
        for row, identity in zip(group, identities, strict=True):
            row.differs = {key: identity.get(key) for key in differing}
        label = ", ".join(str(value) for value in group[0].labels.values() if value is not None)
        warnings.append(f"{label}: {len(group)} rows, because the runs differ in {_listed(differing)}.")
    return warnings


def _listed(keys: Sequence[str]) -> str:
    rest = len(keys) - _SHOWN_KEYS
    return ", ".join(keys[:_SHOWN_KEYS]) + (f" and {rest} more settings" if rest > 0 else "")


def _uneven(rows: Sequence[ReportRow], columns: Sequence[str]) -> list[str]:
    """Return one sentence per row and metric that lacks a value for some seed."""
    warnings = []
    for row in rows:
        label = ", ".join(str(value) for value in row.labels.values() if value is not None)
        for name in columns:
            elsewhere = name.count("/") >= 2 and not any(_measures(run, name) for run in row.runs)
            missing = [] if elsewhere else sorted(set(row.seeds) - set(row.stats[name].values))
            if missing:
                warnings.append(f"{label}: {name} has no value for seed {', '.join(map(str, missing))}.")
    return warnings


def _check_keys(runs: Sequence[Run], by: Sequence[str]) -> None:
    for key in by:
        if all(run.value(key) is None for run in runs):
            known = ["model", "dataset", *runs[0].settings]
            raise StemlabError(f"by: no run has the key {key!r}.{nearest(key, known)}")


def _sort_key(value: Any, position: Mapping[str, int]) -> tuple[int, float, str]:
    if isinstance(value, int | float):
        return (0, float(value), "")
    return (1, float(position.get(str(value), len(position))), str(value))

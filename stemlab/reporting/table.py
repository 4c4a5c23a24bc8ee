"""Group runs into rows, and take mean and standard deviation over their seeds.

Rows never mix samples with real data, two prepared datasets, or two settings: what differs makes rows of its own, and
the difference is told.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from statistics import fmean, stdev
from typing import Any, Literal

from stemlab.errors import StemlabError, nearest
from stemlab.reporting.collect import Run

COSTS = {
    "samples/s": "throughput.train_samples_per_s",
    "dense": "parameters.dense",
    "embedding": "parameters.embedding",
}
DATA = "data"  # the pseudo-setting that tells prepared datasets apart
Scenarios = Literal["pooled", "each"]


@dataclass(frozen=True)
class Stat:
    """A quantity over seeds.

    Attributes:
        values: seed -> value, where it is defined.
    """

    values: Mapping[int, float]

    @property
    def mean(self) -> float | None:
        """Mean over seeds."""
        return fmean(self.values.values()) if self.values else None

    @property
    def std(self) -> float | None:
        """Sample standard deviation (n - 1), None for a single seed."""
        return stdev(self.values.values()) if len(self.values) > 1 else None


@dataclass
class Row:
    """One line of a table.

    Attributes:
        labels: key of ``by`` -> value.
        runs: its runs.
        stats: column (``auc/like``, ``auc/click/nl``, ``ndcg@5``) -> statistic.
        costs: column of ``COSTS`` -> statistic.
        differs: what tells it from another row of the same labels (``optim.lr`` -> value).
    """

    labels: dict[str, Any]
    runs: list[Run]
    stats: dict[str, Stat]
    costs: dict[str, Stat]
    differs: dict[str, Any] = field(default_factory=dict)

    @property
    def sample(self) -> bool:
        """Whether its rows are synthetic."""
        return bool(self.runs[0].record["sample"])

    @property
    def alone(self) -> bool:
        """Whether each task has a network of its own."""
        return self.runs[0].alone

    @property
    def seeds(self) -> list[int]:
        """Seeds in the row, in ascending order."""
        return sorted({int(run.record["seed"]) for run in self.runs})


@dataclass
class Table:
    """Rows and what must be said about them.

    Attributes:
        by: keys that make a row.
        metrics: names without split and task (``auc``).
        columns: a column a metric and task (``auc/like``), or metric, task and scenario (``auc/click/nl``), or a metric
            that has no task (``ndcg@5``).
        rows: the lines.
        warnings: sentences.
    """

    by: list[str]
    metrics: list[str]
    columns: list[str]
    rows: list[Row]
    warnings: list[str]

    @property
    def sample(self) -> bool:
        """Whether any row is synthetic."""
        return any(row.sample for row in self.rows)


def build_table(
    runs: Sequence[Run],
    by: Sequence[str],
    metrics: Sequence[str],
    split: str = "test",
    order: Sequence[str] = (),
    scenarios: Scenarios = "pooled",
) -> Table:
    """Make a table.

    Args:
        runs: finished runs, each experiment and seed once.
        by: record or config keys that make a row (``model``, ``dataset.sample.conflict``).
        metrics: names of metrics, whether measured for each task (``auc``, ``logloss``) or not (``ndcg@5``).
        split: ``test`` or ``val``.
        order: labels in the order of the rows; others follow in alphabetical order.
        scenarios: a column a task (``pooled``: the rows of all scenarios), or a column a task and scenario (``each``).

    Raises:
        StemlabError: a key or a metric that no run has, or scenarios where there are none.
    """
    _check_keys(runs, by)
    columns = _columns(runs, metrics, split, scenarios)
    groups: dict[str, list[Run]] = {}
    for run in runs:
        groups.setdefault(json.dumps([_labels(run, by), _identity(run)], sort_keys=True, default=str), []).append(run)
    rows = [_row(group, by, columns, split) for group in groups.values()]
    place = {label: i for i, label in enumerate(order)}
    rows.sort(key=lambda row: [_sort_key(value, place) for value in (*row.labels.values(), row.seeds)])
    return Table(list(by), list(metrics), columns, rows, [*_tell_apart(rows), *_uneven(rows, columns)])


def _columns(runs: Sequence[Run], metrics: Sequence[str], split: str, scenarios: Scenarios) -> list[str]:
    """Return the columns of each metric: its tasks where runs have any, itself where a run without tasks has it.

    Raises:
        StemlabError: no run has the metric.
    """
    tasks = list(dict.fromkeys(task for run in runs for task in run.record["config"]["dataset"].get("tasks", ())))
    names = list(dict.fromkeys(f"/{name}" for run in runs for name in run.scenarios))
    if scenarios == "each" and not names:
        raise StemlabError("scenarios=each: no run is on a dataset with scenarios; write scenarios=pooled.")
    columns = []
    for metric in metrics:
        for_tasks = [f"{metric}/{task}{name}" for task in tasks for name in (names if scenarios == "each" else [""])]
        alone = [metric] if any(not run.tasks and f"{split}/{metric}" in run.record["metrics"] for run in runs) else []
        if not any(_stat(runs, name, split).values for name in (*for_tasks, *alone)):
            raise _unmeasured(runs[0], (*for_tasks, metric)[0], split)
        columns += for_tasks + alone
    return columns


def _unmeasured(run: Run, name: str, split: str) -> StemlabError:
    known = sorted({name.split("/")[1] for name in run.record["metrics"] if name.startswith(f"{split}/")})
    return StemlabError(f"metrics: no run has {split}/{name}; measured there: {', '.join(known) or 'nothing'}.")


def _row(runs: list[Run], by: Sequence[str], names: Sequence[str], split: str) -> Row:
    stats = {name: _stat(runs, name, split) for name in names}
    costs = {column: _cost(runs, key) for column, key in COSTS.items()}
    return Row(_labels(runs[0], by), runs, stats, costs)


def _stat(runs: Sequence[Run], name: str, split: str) -> Stat:
    having = [run for run in runs if _measures(run, name)]
    found = {int(run.record["seed"]): run.metric(f"{split}/{name}") for run in having}
    return Stat({seed: value for seed, value in sorted(found.items()) if value is not None})


def _measures(run: Run, name: str) -> bool:
    """Return whether a run has what a column shows: the task, and the scenario if it names one."""
    _, *rest = name.split("/", 2)
    if not rest:
        return not run.tasks
    return rest[0] in run.tasks and (len(rest) == 1 or rest[1] in run.scenarios)


def _cost(runs: Sequence[Run], key: str) -> Stat:
    """Mean over the runs of a seed: where each task has its own network, this is the cost of one of them."""
    by_seed: dict[int, list[float]] = {}
    for run in runs:
        value = run.value(key)
        if value is not None:
            by_seed.setdefault(int(run.record["seed"]), []).append(float(value))
    return Stat({seed: fmean(values) for seed, values in by_seed.items()})


def _labels(run: Run, by: Sequence[str]) -> dict[str, Any]:
    return {key: run.value(key) for key in by}


def _identity(run: Run) -> dict[str, Any]:
    """Everything that must be equal within a row."""
    return {**run.settings, DATA: str(run.record["dataset_fingerprint"])[:8], "sample": run.record["sample"]}


def _tell_apart(rows: Sequence[Row]) -> list[str]:
    """Note on rows of the same labels in what they differ, and return a sentence for each such group."""
    same: dict[str, list[Row]] = {}
    for row in rows:
        same.setdefault(json.dumps(row.labels, default=str), []).append(row)
    told = []
    for group in (group for group in same.values() if len(group) > 1):
        identities = [_identity(row.runs[0]) for row in group]
        keys = sorted({key for identity in identities for key in identity})
        differing = [key for key in keys if len({str(identity.get(key)) for identity in identities}) > 1]
        for row, identity in zip(group, identities, strict=True):
            row.differs = {key: identity.get(key) for key in differing}
        label = ", ".join(str(value) for value in group[0].labels.values() if value is not None)
        told.append(f"{label}: {len(group)} rows, because the runs differ in {', '.join(differing)}.")
    return told


def _uneven(rows: Sequence[Row], columns: Sequence[str]) -> list[str]:
    """Tell rows whose metrics were not measured on all of their seeds."""
    told = []
    for row in rows:
        label = ", ".join(str(value) for value in row.labels.values() if value is not None)
        for name in columns:
            elsewhere = name.count("/") == 2 and not any(_measures(run, name) for run in row.runs)
            missing = [] if elsewhere else sorted(set(row.seeds) - set(row.stats[name].values))
            if missing:
                told.append(f"{label}: {name} has no value for seed {', '.join(map(str, missing))}.")
    return told


def _check_keys(runs: Sequence[Run], by: Sequence[str]) -> None:
    for key in by:
        if all(run.value(key) is None for run in runs):
            known = ["model", "dataset", *runs[0].settings]
            raise StemlabError(f"by: no run has the key {key!r}.{nearest(key, known)}")


def _sort_key(value: Any, place: Mapping[str, int]) -> tuple[int, float, str]:
    if isinstance(value, int | float):
        return (0, float(value), "")
    return (1, float(place.get(str(value), len(place))), str(value))

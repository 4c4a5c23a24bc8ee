"""Differences of models from a baseline, paired over seeds or splits: the table of negative transfer."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from stemlab.reporting.collect import Run
from stemlab.reporting.reference import Reference
from stemlab.reporting.statistics import blocked_t, holm
from stemlab.reproduction.checks import NumberCheck

_Values = Mapping[str, Mapping[str, Mapping[int, float]]]


@dataclass(frozen=True)
class ModelDifference:
    """Mean difference of a model from the baseline.

    Attributes:
        model: name of the model.
        column: metric and task (``auc/is_comment``).
        baseline: mean of the baseline over the common repetitions.
        difference: mean difference.
        standard_error: of the mean difference.
        p: p-value of the paired t-test, by Holm's method over all differences of the table; NaN with one repetition.
        repeats: number of common repetitions.
    """

    model: str
    column: str
    baseline: float
    difference: float
    standard_error: float
    p: float
    repeats: int


def model_differences(
    runs: Sequence[Run], baseline: str, metrics: Sequence[str], key: str, split: str = "test"
) -> list[ModelDifference]:
    """Return the differences of every model and task that the baseline also has.

    Args:
        runs: finished runs.
        baseline: name of the model to which the others are compared; one network per task has the values of its task.
        metrics: metric names without split and task.
        key: the repeated setting (``dataset.split.seed``).
        split: ``test`` or ``val``.
    """
    found = []
    for column, models in _values(runs, metrics, key, split).items():
        base = models.get(baseline, {})
        for model, values in models.items():
            common = sorted(set(values) & set(base))
            if model == baseline or not common:
                continue
            both = np.array([[values[one] for one in common], [base[one] for one in common]])
            test, _ = blocked_t(both, 0, 1)
            found.append((model, column, float(both[1].mean()), test, len(common)))
    adjusted = holm([test.p for _, _, _, test, _ in found])
    return [
        ModelDifference(model, column, mean, test.difference, test.standard_error, p, count)
        for (model, column, mean, test, count), p in zip(found, adjusted, strict=True)
    ]


def _values(runs: Sequence[Run], metrics: Sequence[str], key: str, split: str) -> _Values:
    found: dict[str, dict[str, dict[int, float]]] = defaultdict(lambda: defaultdict(dict))
    for run in runs:
        for metric in metrics:
            for task in run.tasks or ("",):
                names = (f"{split}/{metric}/{task}".rstrip("/"), *([f"{split}/{metric}"] if run.alone else []))
                value = next((value for name in names if (value := run.metric(name)) is not None), None)
                if value is not None:
                    model = str(run.value("model"))
                    found[f"{metric}/{task}".rstrip("/")][model][int(run.value(key))] = value
    return found


def difference_table(found: Sequence[ModelDifference], baseline: str) -> str:
    """Return the table in Markdown: one row per model, one column per metric and task."""
    columns = list(dict.fromkeys(one.column for one in found))
    cells = {(one.model, one.column): one for one in found}
    means = {one.column: one.baseline for one in found}
    lines = [f"| model | {' | '.join(f'{name} ({baseline} {means[name]:.4f})' for name in columns)} |"]
    lines.append("|---" * (len(columns) + 1) + "|")
    for model in sorted({one.model for one in found}):
        row = [_cell(cells[model, name]) if (model, name) in cells else "-" for name in columns]
        lines.append(f"| {model} | {' | '.join(row)} |")
    return "\n".join(lines)


def _cell(one: ModelDifference) -> str:
    if math.isnan(one.p):
        return f"{one.difference:+.4f} (n {one.repeats})"
    return f"{one.difference:+.4f} ± {one.standard_error:.4f} (p {one.p:.3g}, n {one.repeats})"


def check_differences(found: Sequence[ModelDifference], reference: Reference) -> list[NumberCheck]:
    """Return the comparison of every difference that the reference also has (``match: {model: ...}``)."""
    checks = []
    for one in found:
        for row in reference.rows:
            if row.match.get("model") == one.model and one.column in row.metrics:
                recorded = row.metrics[one.column]
                value = recorded[0] if isinstance(recorded, tuple) else recorded
                tolerance = reference.tolerance.get(one.column.split("/")[0])
                label, numbers = f"{one.model} (difference)", {"ours": one.difference, "published": value}
                checks.append(NumberCheck(row=label, column=one.column, tolerance=tolerance, **numbers))
    return checks

"""Metrics of the samples of one task, and reasons for undefined ones.

Legend: B samples.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import Tensor

from stemlab.array_types import AnyArray
from stemlab.metrics.auc import auc, gauc
from stemlab.metrics.calibration import calibration_ratio, ece, log_loss
from stemlab.metrics.regression import mae, rmse, xauc
from stemlab.metrics.tensor_auc import tensor_auc, tensor_group_auc
from stemlab.metrics.tensor_calibration import tensor_calibration_ratio, tensor_ece, tensor_log_loss
from stemlab.metrics.weighted import (
    weighted_auc,
    weighted_calibration_ratio,
    weighted_ece,
    weighted_gauc,
    weighted_log_loss,
)

Column = Any
"""Values of all samples: an array, or a tensor on a GPU; both have the operators that are used here."""

REGRESSION: dict[str, Callable[[AnyArray, AnyArray, AnyArray | None], float]] = {"rmse": rmse, "mae": mae, "xauc": xauc}
"""Metrics of regression tasks."""
_WEIGHTED: dict[str, Callable[[AnyArray, AnyArray, AnyArray], float]] = {
    "auc": weighted_auc,
    "logloss": weighted_log_loss,
    "calibration": weighted_calibration_ratio,
    "ece": weighted_ece,
}


@dataclass(frozen=True, slots=True)
class TaskSamples:
    """Samples on which a task is measured.

    Attributes:
        labels: (B,) 0 or 1, or real numbers.
        values: (B,) probabilities, or predictions in the unit of the label.
        groups: name of a group metric -> (B,) group keys.
        weights: (B,) weights, at least 0; ``None``: all are 1.
        regression: whether the labels are real numbers.
    """

    labels: Column
    values: Column
    groups: Mapping[str, Column]
    weights: Column | None = None
    regression: bool = False

    def where(self, chosen: Column) -> TaskSamples:
        """Return the chosen samples."""
        weights = None if self.weights is None else self.weights[chosen]
        groups = {name: keys[chosen] for name, keys in self.groups.items()}
        return TaskSamples(self.labels[chosen], self.values[chosen], groups, weights, self.regression)


def evaluate_task(samples: TaskSamples) -> dict[str, float]:
    """Return the metrics of one task.

    Metrics of regression, and those with weights, are computed on the CPU.
    """
    if samples.regression:
        labels, values, weights = (as_array(column) for column in (samples.labels, samples.values, samples.weights))
        return {name: function(labels, values, weights) for name, function in REGRESSION.items()}
    if samples.weights is not None:
        return _evaluate_weighted(samples)
    labels, prob, groups = samples.labels, samples.values, samples.groups
    if isinstance(prob, Tensor):
        return _evaluate_tensors(labels, prob, groups)
    functions: dict[str, Callable[[AnyArray, AnyArray], float]] = {
        "auc": auc,
        "logloss": log_loss,
        "calibration": calibration_ratio,
        "ece": ece,
    }
    prob = np.ascontiguousarray(prob)
    values = {name: function(labels, prob) for name, function in functions.items()}
    return values | {name: gauc(labels, prob, keys) for name, keys in groups.items()}


def _evaluate_weighted(samples: TaskSamples) -> dict[str, float]:
    labels, prob, weights = (as_array(column) for column in (samples.labels, samples.values, samples.weights))
    values = {name: function(labels, prob, weights) for name, function in _WEIGHTED.items()}
    groups = samples.groups.items()
    return values | {name: weighted_gauc(labels, prob, weights, as_array(keys)) for name, keys in groups}


def as_array(column: Column | None) -> Any:
    """Return a column as an array."""
    if column is None:
        return None
    return column.cpu().numpy() if isinstance(column, Tensor) else np.ascontiguousarray(column)


def _evaluate_tensors(labels: Any, prob: Tensor, groups: Mapping[str, Any]) -> dict[str, float]:
    """Return the metrics of one task, computed on the device of the tensors."""
    functions: dict[str, Callable[[Tensor, Tensor], float]] = {
        "auc": tensor_auc,
        "logloss": tensor_log_loss,
        "calibration": tensor_calibration_ratio,
        "ece": tensor_ece,
    }
    prob = prob.contiguous()
    values = {name: function(labels, prob) for name, function in functions.items()}
    return values | {name: tensor_group_auc(labels, prob, keys).mean() for name, keys in groups.items()}


def undefined_message(metrics: Sequence[str], suffix: str, reason: str) -> str:
    """Return one sentence for all undefined metrics of a task in a scenario, which share the reason."""
    first, *others = metrics
    also = f" (also {', '.join(others)})" if others else ""
    return f"{first}/{suffix} is undefined{also}: {reason}"


def undefined_reason(samples: TaskSamples) -> str:
    """Return one sentence: why a metric of the task is undefined."""
    if samples.weights is not None:
        samples = samples.where(samples.weights > 0)
    labels, prob = samples.labels, samples.values
    rows, broken = len(labels), int((prob != prob).sum())
    if rows == 0:
        return "there are no samples." if samples.weights is None else "there are no samples with a weight above 0."
    if broken:
        return f"{broken} of {rows} predictions are NaN (diverged training?)."
    if samples.regression:
        return f"all {rows} labels are equal."
    positives = int((labels > 0).sum())
    if positives in (0, rows):
        return f"all {rows} labels are {int(positives > 0)}."
    return "no group has both a positive and a negative sample."

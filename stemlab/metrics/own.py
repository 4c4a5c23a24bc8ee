"""Base classes of metrics of the user (docs/own/metric.md), computed from the samples of all processes.

Legend: B samples.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import ClassVar, Literal

import numpy as np

from stemlab.array_types import AnyArray, Float64Array
from stemlab.errors import StemlabError
from stemlab.metrics.task_values import TaskSamples, as_array
from stemlab.types import LabelKind


class TaskMetric(ABC):
    """A metric of the samples of one task; it is computed per task and scenario, and its mean over tasks.

    Settings are the keyword-only parameters of the constructor.

    Attributes:
        higher_is_better: direction; ``None``: neither larger nor smaller values are better.
        kinds: kinds of the labels that are measured.
        weighted: whether ``measure`` reads ``samples.weights``; a dataset with sample weights is refused otherwise.
    """

    reads: ClassVar[Literal["impressions"]] = "impressions"
    higher_is_better: ClassVar[bool | None]
    kinds: ClassVar[tuple[LabelKind, ...]] = ("binary",)
    weighted: ClassVar[bool] = False

    @abstractmethod
    def measure(self, samples: TaskSamples) -> float:
        """Return the metric of at least one sample; NaN where it is undefined. Samples have no defined order.

        Args:
            samples: ``labels`` and ``values`` (predictions), (B,) float64; ``weights``, (B,) float64 or None;
                ``groups["gauc"]``, (B,) int64, if the dataset has a group. Samples whose label is masked are left out.
        """


class RankMetric(ABC):
    """A metric of the ranks of the positives.

    Settings are the keyword-only parameters of the constructor.

    Attributes:
        higher_is_better: direction; ``None``: neither larger nor smaller values are better.
    """

    reads: ClassVar[Literal["sequences"]] = "sequences"
    higher_is_better: ClassVar[bool | None]

    @abstractmethod
    def measure(self, rank_B: Float64Array) -> float:
        """Return the metric of at least one sample; NaN where it is undefined.

        Args:
            rank_B: ranks of the positives, 1 is best; with ``ties=mean`` multiples of 0.5.
        """


def measure_task(metrics: Mapping[str, TaskMetric], samples: TaskSamples) -> dict[str, float]:
    """Return name -> value of the metrics that measure labels of the kind of the task; NaN without samples."""
    kind: LabelKind = "regression" if samples.regression else "binary"
    having = {name: metric for name, metric in metrics.items() if kind in metric.kinds}
    if not having:
        return {}
    if samples.weights is not None:
        samples = samples.where(samples.weights > 0)
    columns = (samples.labels, samples.values, samples.weights)
    labels, values, weights = (None if column is None else _float64(as_array(column)) for column in columns)
    assert labels is not None
    groups = {name: as_array(keys) for name, keys in samples.groups.items()}
    converted = TaskSamples(labels, values, groups, weights, samples.regression)
    return {
        name: _number(name, metric.measure(converted)) if len(labels) else math.nan for name, metric in having.items()
    }


def measure_ranks(metrics: Mapping[str, RankMetric], rank_B: AnyArray) -> dict[str, float]:
    """Return name -> value of the metrics; NaN without samples."""
    rank_B = _float64(rank_B)
    return {
        name: _number(name, metric.measure(rank_B)) if len(rank_B) else math.nan for name, metric in metrics.items()
    }


def undefined_own(values: Mapping[str, float], metrics: Mapping[str, object], suffix: str = "") -> list[str]:
    """Return one sentence per undefined value."""
    missing = [name for name, value in values.items() if math.isnan(value)]
    return [
        f"{name}{suffix and '/'}{suffix} is undefined: {type(metrics[name]).__name__} returned no finite number, or "
        "there are no samples."
        for name in missing
    ]


def _float64(column: AnyArray) -> Float64Array:
    return np.ascontiguousarray(column, dtype=np.float64)


def _short(value: object) -> str:
    shape = getattr(value, "shape", None)
    return f"an array of shape {shape}" if shape is not None else repr(value)[:100]


def _number(name: str, value: object) -> float:
    """Return a returned value as a float; NaN if it is infinite, which no file of a run can hold."""
    try:
        number = float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        raise StemlabError(f"metrics.own.{name}: measure returned {_short(value)}, which is not a number.") from None
    return number if math.isfinite(number) else math.nan

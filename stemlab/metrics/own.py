"""Base classes of metrics of the user (docs/own/metric.md), computed from the samples of all processes.

Legend: B samples, k a cut-off.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import ClassVar, Literal

import numpy as np

from stemlab.array_types import AnyArray, Float64Array
from stemlab.errors import StemlabError, named_in_errors
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


class CutoffMetric(ABC):
    """A metric of the positives among the first k items, measured at each cut-off of ``dataset.evaluation.topk``.

    Its names are those of HR@k: ``precision@5``, ``precision@10``. Settings are the keyword-only parameters of the
    constructor.

    Attributes:
        higher_is_better: direction; ``None``: neither larger nor smaller values are better.
    """

    reads: ClassVar[Literal["sequences"]] = "sequences"
    higher_is_better: ClassVar[bool | None]

    @abstractmethod
    def measure(self, rank_B: Float64Array, k: int) -> float:
        """Return the metric of at least one sample at a cut-off; NaN where it is undefined.

        Args:
            rank_B: ranks of the positives, 1 is best; with ``ties=mean`` multiples of 0.5.
            k: the cut-off.
        """


def ranking_names(metrics: Mapping[str, object], topk: Sequence[int]) -> dict[str, str]:
    """Return measured name (``precision@5``) -> name of the metric, in the order of the config.

    Args:
        metrics: name -> metric, or its class.
        topk: cut-offs.
    """
    classes = {name: metric if isinstance(metric, type) else type(metric) for name, metric in metrics.items()}
    return {
        full: name
        for name, one in classes.items()
        for full in ([f"{name}@{k}" for k in topk] if issubclass(one, CutoffMetric) else [name])
    }


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
        name: _measured(name, metric.measure, converted) if len(labels) else math.nan for name, metric in having.items()
    }


def measure_ranks(
    metrics: Mapping[str, RankMetric | CutoffMetric], rank_B: AnyArray, topk: Sequence[int] = ()
) -> dict[str, float]:
    """Return name -> value of the metrics, of each cut-off of those that have cut-offs; NaN without samples."""
    names = ranking_names(metrics, topk)
    if not len(rank_B):
        return dict.fromkeys(names, math.nan)
    rank_B = _float64(rank_B)
    return {full: _measured(name, metrics[name].measure, rank_B, *_cutoff(full)) for full, name in names.items()}


def _cutoff(name: str) -> list[int]:
    return [int(k) for k in name.split("@")[1:]]


def undefined_own(values: Mapping[str, float], metrics: Mapping[str, object], suffix: str = "") -> list[str]:
    """Return one sentence per undefined value."""
    missing = [name for name, value in values.items() if math.isnan(value)]
    return [
        f"{name}{suffix and '/'}{suffix} is undefined: {type(metrics[name.partition('@')[0]]).__name__} returned no "
        "finite number, or there are no samples."
        for name in missing
    ]


def _float64(column: AnyArray) -> Float64Array:
    return np.ascontiguousarray(column, dtype=np.float64)


def _short(value: object) -> str:
    shape = getattr(value, "shape", None)
    return f"an array of shape {shape}" if shape is not None else repr(value)[:100]


def _measured(name: str, measure: Callable[..., object], *arguments: object) -> float:
    with named_in_errors(f"metrics.own.{name}"):
        value = measure(*arguments)
    return _number(name, value)


def _number(name: str, value: object) -> float:
    """Return a returned value as a float; NaN if it is infinite, which no file of a run can hold."""
    try:
        number = float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        raise StemlabError(f"metrics.own.{name}: measure returned {_short(value)}, which is not a number.") from None
    return number if math.isfinite(number) else math.nan

"""Metrics of multi-task predictions.

Legend: B samples, T tasks, S scenarios.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torchmetrics
from torch import Tensor

from stemlab.metrics.gather import computed_on_rank_zero, gather_rows
from stemlab.metrics.own import TaskMetric, measure_task, undefined_own
from stemlab.metrics.task_values import Column, TaskSamples, evaluate_task, undefined_message, undefined_reason
from stemlab.types import MISSING_GROUP

_ValuesAndReasons = tuple[dict[str, float], list[str]]

_AVERAGED = ("auc", "gauc", "gauc_encoded", "logloss", "ece", "rmse", "mae", "xauc")
_ENCODED = "gauc_encoded"


class MultiTaskMetrics(torchmetrics.Metric):
    """Metrics per task and scenario, and their means over tasks: of binary tasks AUC, gAUC, log loss and calibration.

    Predictions (float32 values, int8 labels, int64 groups) are stored on the device of the batches and gathered
    on rank 0 at the end of the epoch, so that the result does not depend on the world size. They are measured there:
    ``update`` copies nothing to the CPU. ``compute`` is a collective: call it on every rank. It returns Python floats;
    log them without ``sync_dist``.

    Keys (docs/methods/metrics.md#names): ``auc``, ``gauc`` (groups are original ids), ``gauc_encoded`` (groups are
    encoded ids, so that all out-of-vocabulary users are one group, as in the released code), ``logloss``,
    ``calibration`` (predicted / observed) and ``ece``, each followed by ``/<task>``; without a task (all but
    ``calibration``) the mean over tasks. They pool the samples of all scenarios. ``/<task>/<scenario>`` uses the
    samples of one scenario (all but ``gauc_encoded``). Group metrics exist if groups are given. Undefined values are
    NaN, also a mean with an undefined task; ``undefined`` lists the reasons, and how many samples without a
    group ``gauc`` leaves out.

    Regression tasks have ``rmse``, ``mae`` and ``xauc`` instead; a mean over tasks is over those that have the metric.
    Samples whose mask is 0 are left out of the task; sample weights weight all metrics.

    Args:
        tasks: names of the label columns.
        scenarios: names in the order of their ids; empty without scenarios.
        regression: tasks with regression labels; labels are then stored as float32.
        own: metrics of the user by name.
    """

    full_state_update = False
    prob: list[Tensor]
    labels: list[Tensor]
    encoded_group: list[Tensor]
    group: list[Tensor]
    scenario: list[Tensor]
    mask: list[Tensor]
    weight: list[Tensor]

    def __init__(
        self,
        tasks: Sequence[str],
        scenarios: Sequence[str] = (),
        *,
        regression: Sequence[str] = (),
        own: Mapping[str, TaskMetric] | None = None,
    ) -> None:
        super().__init__(sync_on_compute=False)
        self.own = dict(own or {})
        self.tasks, self.scenarios, self.regression = tuple(tasks), tuple(scenarios), frozenset(regression)
        self._label_dtype = torch.float32 if self.regression else torch.int8
        self.undefined: list[str] = []
        for state in ("prob", "labels", "encoded_group", "group", "scenario", "mask", "weight"):
            self.add_state(state, default=[], dist_reduce_fx=None)

    def update(
        self,
        prob_BT: Tensor,
        labels_BT: Tensor,
        encoded_group_B: Tensor | None = None,
        group_B: Tensor | None = None,
        scenario_B: Tensor | None = None,
        mask_BT: Tensor | None = None,
        weight_B: Tensor | None = None,
    ) -> None:
        """Add a batch.

        Args:
            prob_BT: probabilities (not logits) or predictions of regression tasks, computed in float32.
            labels_BT: 0 or 1, or regression labels.
            encoded_group_B: encoded group ids, the input of the network, or ``None``.
            group_B: original group keys (``MISSING_GROUP``: none), or ``None``.
            scenario_B: scenario ids 0 to S-1; ignored without scenarios.
            mask_BT: 1 where the label of a task counts; ``None`` (in all batches): all count.
            weight_B: sample weights; ``None`` (in all batches): all are 1.

        Raises:
            ValueError: shapes disagree, groups are given for some batches only, or a scenario id on the CPU is invalid.
        """
        if prob_BT.shape != labels_BT.shape or prob_BT.shape[1:] != (len(self.tasks),):
            shapes = f"probabilities {tuple(prob_BT.shape)}, labels {tuple(labels_BT.shape)}"
            raise ValueError(f"{shapes}: both must be (samples, {len(self.tasks)}) for the tasks {self.tasks}")
        self.prob.append(_kept(prob_BT, torch.float32))
        self.labels.append(_kept(labels_BT, self._label_dtype))
        if mask_BT is not None:
            self.mask.append(_kept(mask_BT, torch.int8))
        if weight_B is not None:
            self.weight.append(_kept(weight_B, torch.float32))
        for state, keys_B in ((self.encoded_group, encoded_group_B), (self.group, group_B)):
            if keys_B is not None:
                state.append(_kept(keys_B, torch.int64))
            if state and (len(state) != len(self.prob) or len(state[-1]) != len(prob_BT)):
                raise ValueError("group keys must be given for every batch, one per sample, or for none")
        if self.scenarios:
            self.scenario.append(self._checked(scenario_B, len(prob_BT)))

    def _checked(self, scenario_B: Tensor | None, rows: int) -> Tensor:
        if scenario_B is None or len(scenario_B) != rows:
            raise ValueError(f"every sample needs one of the scenarios {self.scenarios}")
        if not scenario_B.is_cuda:  # on a GPU the check would wait for it; compute() checks all ids at once
            self._check_range(scenario_B)
        return _kept(scenario_B, torch.int32)

    def _check_range(self, scenario_B: Tensor) -> None:
        least, most = (int(bound) for bound in scenario_B.aminmax()) if len(scenario_B) else (0, 0)
        if least < 0 or most >= len(self.scenarios):
            raise ValueError(f"scenario ids are {least} to {most}, but the scenarios are {self.scenarios}")

    def own_columns(self) -> dict[str, Tensor]:
        """Return the samples of this process: name of the state -> values; states that no batch had are left out."""
        states = ("prob", "labels", "group", "scenario", "mask", "weight")
        return {name: torch.cat(parts) for name in states if (parts := getattr(self, name))}

    def compute(self) -> dict[str, float]:
        """Return metric name -> value, equal on every rank. Collective.

        Raises:
            ValueError: a scenario id of a rank is invalid; raised on every rank.
        """
        width = len(self.tasks)
        prob = _gathered(_cat(self.prob, (0, width), torch.float32))
        labels = _gathered(_cat(self.labels, (0, width), self._label_dtype))
        groups = {
            "gauc": _gathered(_cat(self.group, (0,), torch.int64)),
            _ENCODED: _gathered(_cat(self.encoded_group, (0,), torch.int64)),
        }
        scenario = _gathered(_cat(self.scenario, (0,), torch.int32)) if self.scenarios else None
        mask = _gathered(_cat(self.mask, (0, width), torch.int8))
        weight = _gathered(_cat(self.weight, (0,), torch.float32))
        samples = _Samples(prob, labels, groups, scenario, mask, weight)
        values, self.undefined = computed_on_rank_zero(lambda: self._evaluate(samples))
        return values

    def _evaluate(self, samples: _Samples) -> _ValuesAndReasons:
        if samples.scenario is not None:
            self._check_range(torch.as_tensor(samples.scenario))
        values, undefined = self._pooled(samples)
        keys = samples.groups["gauc"]
        missing_group = int((keys == MISSING_GROUP).sum())
        if missing_group:
            rows = len(samples.prob)
            undefined.append(f"gauc leaves out {missing_group:,} of {rows:,} samples, whose group is missing.")
        for index, name in enumerate(self.scenarios if samples.scenario is not None else ()):
            inside = slice(None) if len(self.scenarios) == 1 else _rows_where(samples.scenario == index)
            for column, task in enumerate(self.tasks):
                of_task = samples.of_task(column, task in self.regression, inside, encoded=False)
                found = evaluate_task(of_task)
                missing = [metric for metric, value in found.items() if math.isnan(value)]
                found |= (own := measure_task(self.own, of_task))
                values |= {f"{metric}/{task}/{name}": value for metric, value in found.items()}
                undefined += undefined_own(own, self.own, f"{task}/{name}")
                if missing:
                    undefined.append(undefined_message(missing, f"{task}/{name}", undefined_reason(of_task)))
        return values, undefined

    def _pooled(self, samples: _Samples) -> _ValuesAndReasons:
        """Return the metrics over all scenarios, means over tasks first, and the reasons for undefined values."""
        values: dict[str, float] = {}
        undefined: list[str] = []
        for column, task in enumerate(self.tasks):
            of_task = samples.of_task(column, task in self.regression)
            per_task = {f"{name}/{task}": value for name, value in evaluate_task(of_task).items()}
            missing = [key for key, value in per_task.items() if math.isnan(value)]
            undefined += [f"{key} is undefined: {undefined_reason(of_task)}" for key in missing]
            own = measure_task(self.own, of_task)
            values |= per_task | {f"{name}/{task}": value for name, value in own.items()}
            undefined += undefined_own(own, self.own, task)
        return task_means(values, self.tasks, (*_AVERAGED, *self.own)) | values, undefined


def task_means(values: Mapping[str, float], tasks: Sequence[str], names: Sequence[str]) -> dict[str, float]:
    """Return the mean of each metric over the tasks that have it.

    Args:
        values: metrics of the tasks: ``auc/click``, or with the split: ``test/auc/click``.
        tasks: names of the tasks.
        names: metrics, ``auc`` or ``test/auc``.
    """
    means = {}
    for name in names:
        of_tasks = [values[key] for task in tasks if (key := f"{name}/{task}") in values]
        if of_tasks:
            means[name] = sum(of_tasks) / len(of_tasks)
    return means


@dataclass(frozen=True, slots=True)
class _Samples:
    """Samples of all processes; empty columns are those that no batch had."""

    prob: Column
    labels: Column
    groups: dict[str, Column]
    scenario: Column | None
    mask: Column
    weight: Column

    def of_task(self, column: int, regression: bool, rows: Column = slice(None), encoded: bool = True) -> TaskSamples:
        """Return the samples of a task among ``rows``: those with a mask of 1."""
        groups = {name: keys[rows] for name, keys in self.groups.items() if len(keys)}
        if not encoded:
            groups.pop(_ENCODED, None)
        weights = self.weight[rows] if len(self.weight) else None
        found = TaskSamples(self.labels[rows, column], self.prob[rows, column], groups, weights, regression)
        return found.where(_rows_where(self.mask[rows, column] > 0)) if len(self.mask) else found


def _kept(values: Tensor, dtype: torch.dtype) -> Tensor:
    # always a copy: the caller may reuse its buffer
    return values.detach().to(dtype=dtype, copy=True)


def _cat(parts: list[Tensor], shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
    return torch.cat(parts) if parts else torch.empty(shape, dtype=dtype)


def _gathered(own: Tensor) -> Column:
    """Return the values of all ranks on rank 0: on a GPU as a tensor there, else as an array."""
    gathered = gather_rows(own)
    return gathered if stays_on_device(gathered) else gathered.numpy()


def stays_on_device(values: Tensor) -> bool:
    """Return whether values are measured as tensors; NumPy is faster on the CPU."""
    return values.is_cuda


def _rows_where(chosen: Column) -> Column:
    return chosen.nonzero().squeeze(1) if isinstance(chosen, Tensor) else np.flatnonzero(chosen)

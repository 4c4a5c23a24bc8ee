"""Metrics of multi-task predictions.

Legend: B samples, T tasks, S scenarios.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
import torchmetrics
from torch import Tensor

from stemlab.array_types import AnyArray
from stemlab.metrics.auc import auc, gauc
from stemlab.metrics.calibration import calibration_ratio, ece, log_loss
from stemlab.metrics.gather import from_rank_zero, gather_rows, is_distributed
from stemlab.metrics.tensor_auc import tensor_auc, tensor_group_auc
from stemlab.metrics.tensor_calibration import tensor_calibration_ratio, tensor_ece, tensor_log_loss
from stemlab.types import MISSING_GROUP

Column = Any
"""Values of all samples: an array, or a tensor on a GPU; both have the operators that are used here."""
_ValuesAndReasons = tuple[dict[str, float], list[str]]

_AVERAGED = ("auc", "gauc", "gauc_encoded", "logloss", "ece")
_ENCODED = "gauc_encoded"


class MultiTaskMetrics(torchmetrics.Metric):
    """AUC, gAUC, log loss and calibration per task and scenario, and their means over tasks.

    Predictions (float32 probabilities, int8 labels, int64 groups) are stored on the device of the batches and gathered
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

    Args:
        tasks: names of the label columns.
        scenarios: names in the order of their ids; empty without scenarios.
    """

    full_state_update = False
    prob: list[Tensor]
    labels: list[Tensor]
    encoded_group: list[Tensor]
    group: list[Tensor]
    scenario: list[Tensor]

    def __init__(self, tasks: Sequence[str], scenarios: Sequence[str] = ()) -> None:
        super().__init__(sync_on_compute=False)
        self.tasks, self.scenarios = tuple(tasks), tuple(scenarios)
        self.undefined: list[str] = []
        for state in ("prob", "labels", "encoded_group", "group", "scenario"):
            self.add_state(state, default=[], dist_reduce_fx=None)

    def update(
        self,
        prob_BT: Tensor,
        labels_BT: Tensor,
        encoded_group_B: Tensor | None = None,
        group_B: Tensor | None = None,
        scenario_B: Tensor | None = None,
    ) -> None:
        """Add a batch.

        Args:
            prob_BT: probabilities (not logits), computed in float32.
            labels_BT: 0 or 1.
            encoded_group_B: encoded group ids, the input of the network, or ``None``.
            group_B: original group keys (``MISSING_GROUP``: none), or ``None``.
            scenario_B: scenario ids 0 to S-1; ignored without scenarios.

        Raises:
            ValueError: shapes disagree, groups are given for some batches only, or a scenario id on the CPU is invalid.
        """
        if prob_BT.shape != labels_BT.shape or prob_BT.shape[1:] != (len(self.tasks),):
            shapes = f"probabilities {tuple(prob_BT.shape)}, labels {tuple(labels_BT.shape)}"
            raise ValueError(f"{shapes}: both must be (samples, {len(self.tasks)}) for the tasks {self.tasks}")
        self.prob.append(_kept(prob_BT, torch.float32))
        self.labels.append(_kept(labels_BT, torch.int8))
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

    def compute(self) -> dict[str, float]:
        """Return metric name -> value, equal on every rank. Collective.

        Raises:
            ValueError: a scenario id is invalid.
        """
        width, scenario_B = len(self.tasks), _cat(self.scenario, (0,), torch.int32)
        if self.scenarios:
            self._check_range(scenario_B)
        prob = _gathered(_cat(self.prob, (0, width), torch.float32))
        labels = _gathered(_cat(self.labels, (0, width), torch.int8))
        groups = {
            "gauc": _gathered(_cat(self.group, (0,), torch.int64)),
            _ENCODED: _gathered(_cat(self.encoded_group, (0,), torch.int64)),
        }
        scenario = _gathered(scenario_B) if self.scenarios else None
        first = not is_distributed() or torch.distributed.get_rank() == 0
        values, self.undefined = from_rank_zero(self._evaluate(prob, labels, groups, scenario) if first else None)
        return values

    def _evaluate(
        self, prob: Column, labels: Column, groups: dict[str, Column], scenario: Column | None
    ) -> _ValuesAndReasons:
        given = {name: keys for name, keys in groups.items() if len(keys)}
        values, undefined = self._pooled(prob, labels, given)
        missing_group = int((groups["gauc"] == MISSING_GROUP).sum())
        if missing_group:
            undefined.append(f"gauc leaves out {missing_group:,} of {len(prob):,} samples, whose group is missing.")
        given.pop(_ENCODED, None)
        for index, name in enumerate(self.scenarios if scenario is not None else ()):
            inside = slice(None) if len(self.scenarios) == 1 else _rows_where(scenario == index)
            keys = {metric: key[inside] for metric, key in given.items()}
            for column, task in enumerate(self.tasks):
                rows = labels[inside, column], prob[inside, column]
                found = evaluate_task(*rows, keys)
                values |= {f"{metric}/{task}/{name}": value for metric, value in found.items()}
                missing = [metric for metric, value in found.items() if math.isnan(value)]
                if missing:
                    undefined.append(_undefined_message(missing, f"{task}/{name}", _reason(*rows)))
        return values, undefined

    def _pooled(self, prob: Column, labels: Column, given: dict[str, Column]) -> _ValuesAndReasons:
        """Return the metrics over all scenarios, means over tasks first, and the reasons for undefined values."""
        values: dict[str, float] = {}
        for column, task in enumerate(self.tasks):
            per_task = evaluate_task(labels[:, column], prob[:, column], given)
            values |= {f"{name}/{task}": value for name, value in per_task.items()}
        undefined = [
            f"{key} is undefined: {_reason(labels[:, column], prob[:, column])}"
            for column, task in enumerate(self.tasks)
            for key in values
            if key.endswith(f"/{task}") and math.isnan(values[key])
        ]
        means = {
            name: sum(values[f"{name}/{task}"] for task in self.tasks) / len(self.tasks)
            for name in _AVERAGED
            if f"{name}/{self.tasks[0]}" in values
        }
        return means | values, undefined


def evaluate_task(labels: Column, prob: Column, groups: Mapping[str, Column]) -> dict[str, float]:
    """Return the metrics of one task.

    Args:
        labels: (B,) 0 or 1.
        prob: (B,) probabilities.
        groups: name of a group metric -> (B,) group keys.
    """
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


def _undefined_message(metrics: Sequence[str], suffix: str, reason: str) -> str:
    """Return one sentence for all undefined metrics of a task in a scenario, which share the reason."""
    first, *others = metrics
    also = f" (also {', '.join(others)})" if others else ""
    return f"{first}/{suffix} is undefined{also}: {reason}"


def _reason(labels: Column, prob: Column) -> str:
    rows, positives, broken = len(labels), int((labels > 0).sum()), int((prob != prob).sum())
    if rows == 0:
        return "there are no samples."
    if broken:
        return f"{broken} of {rows} predictions are NaN (diverged training?)."
    if positives in (0, rows):
        return f"all {rows} labels are {int(positives > 0)}."
    return "no group has both a positive and a negative sample."


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

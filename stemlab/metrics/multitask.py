"""Evaluation of multi-task predictions: raw rows in, one dictionary of numbers out.

Legend: B rows of a batch, T tasks, S scenarios.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
import torch
import torchmetrics
from torch import Tensor

from stemlab.array_types import AnyArray
from stemlab.metrics.auc import auc, gauc
from stemlab.metrics.calibration import calibration_ratio, ece, log_loss
from stemlab.metrics.gather import from_rank_zero, gather_rows, is_distributed

_ValuesAndReasons = tuple[dict[str, float], list[str]]

_AVERAGED = ("auc", "gauc", "gauc_encoded", "logloss", "ece")
_ENCODED = "gauc_encoded"


class MultiTaskMetrics(torchmetrics.Metric):
    """AUC, gAUC, log loss and calibration of every task, in every scenario, and their means over tasks.

    Rows are kept as they come (float32 probabilities, int8 labels, int64 groups) on the CPU and brought together on
    rank 0 when the epoch ends, so that any number of ranks gives what one process gives. ``compute`` is a collective:
    call it on every rank. It returns plain floats; log them without ``sync_dist``.

    Keys: ``auc``, ``gauc`` (true groups), ``gauc_encoded`` (published: groups are encoded ids, so that all
    out-of-vocabulary users are one group), ``logloss``, ``calibration`` (predicted/observed) and ``ece``, each followed
    by ``/<task>``; the bare name (all but ``calibration``) is the mean over tasks. These pool the rows of all
    scenarios. ``/<task>/<scenario>`` is of the rows of one scenario (all but ``gauc_encoded``). The group metrics exist
    where groups are given. What is undefined is nan (a mean over tasks too, if one of them is), and ``undefined`` says
    why.

    Args:
        tasks: names of the label columns.
        scenarios: names in the order of their ids; empty where rows have no scenario.
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
            encoded_group_B: group as the network sees it (encoded id), or ``None``.
            group_B: true group keys, or ``None``.
            scenario_B: scenario ids 0 to S-1; not read where there are no scenarios.

        Raises:
            ValueError: when shapes disagree, groups come with some batches only, or a row has no known scenario.
        """
        if prob_BT.shape != labels_BT.shape or prob_BT.shape[1:] != (len(self.tasks),):
            raise ValueError(f"probabilities {tuple(prob_BT.shape)}, labels {tuple(labels_BT.shape)}, {self.tasks}")
        self.prob.append(_on_cpu(prob_BT, torch.float32))
        self.labels.append(_on_cpu(labels_BT, torch.int8))
        for state, keys_B in ((self.encoded_group, encoded_group_B), (self.group, group_B)):
            if keys_B is not None:
                state.append(_on_cpu(keys_B, torch.int64))
            if state and (len(state) != len(self.prob) or len(state[-1]) != len(prob_BT)):
                raise ValueError("group keys must come with every batch, one a row, or with none")
        if self.scenarios:
            self.scenario.append(self._checked(scenario_B, len(prob_BT)))

    def _checked(self, scenario_B: Tensor | None, rows: int) -> Tensor:
        if scenario_B is None or len(scenario_B) != rows:
            raise ValueError(f"every row needs one of the scenarios {self.scenarios}")
        scenario_B = _on_cpu(scenario_B, torch.int32)
        least, most = (int(scenario_B.min()), int(scenario_B.max())) if rows else (0, 0)
        if least < 0 or most >= len(self.scenarios):
            raise ValueError(f"scenario ids reach from {least} to {most}, and the scenarios are {self.scenarios}")
        return scenario_B

    def compute(self) -> dict[str, float]:
        """Return every metric; the same on every rank."""
        width = len(self.tasks)
        prob = gather_rows(_cat(self.prob, (0, width), torch.float32)).numpy()
        labels = gather_rows(_cat(self.labels, (0, width), torch.int8)).numpy()
        groups = {
            "gauc": gather_rows(_cat(self.group, (0,), torch.int64)).numpy(),
            _ENCODED: gather_rows(_cat(self.encoded_group, (0,), torch.int64)).numpy(),
        }
        scenario = gather_rows(_cat(self.scenario, (0,), torch.int32)).numpy() if self.scenarios else None
        first = not is_distributed() or torch.distributed.get_rank() == 0
        values, self.undefined = from_rank_zero(self._evaluate(prob, labels, groups, scenario) if first else None)
        return values

    def _evaluate(
        self, prob: AnyArray, labels: AnyArray, groups: dict[str, AnyArray], scenario: AnyArray | None
    ) -> _ValuesAndReasons:
        given = {name: keys for name, keys in groups.items() if len(keys)}
        values, undefined = self._pooled(prob, labels, given)
        given.pop(_ENCODED, None)
        for index, name in enumerate(self.scenarios if scenario is not None else ()):
            inside = slice(None) if len(self.scenarios) == 1 else np.flatnonzero(scenario == index)
            keys = {metric: key[inside] for metric, key in given.items()}
            for column, task in enumerate(self.tasks):
                rows = labels[inside, column], prob[inside, column]
                found = evaluate_task(*rows, keys)
                values |= {f"{metric}/{task}/{name}": value for metric, value in found.items()}
                lost = [metric for metric, value in found.items() if math.isnan(value)]
                if lost:
                    undefined.append(_sentence(lost, f"{task}/{name}", _reason(*rows)))
        return values, undefined

    def _pooled(self, prob: AnyArray, labels: AnyArray, given: dict[str, AnyArray]) -> _ValuesAndReasons:
        """Return the metrics of the rows of all scenarios, means over tasks first, and why some are undefined."""
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


def evaluate_task(labels: AnyArray, prob: AnyArray, groups: dict[str, AnyArray]) -> dict[str, float]:
    """Return the metrics of one task.

    Args:
        labels: (B,) 0 or 1.
        prob: (B,) probabilities.
        groups: name of a group metric -> (B,) group keys.
    """
    functions: dict[str, Callable[[AnyArray, AnyArray], float]] = {
        "auc": auc,
        "logloss": log_loss,
        "calibration": calibration_ratio,
        "ece": ece,
    }
    prob = np.ascontiguousarray(prob)
    values = {name: function(labels, prob) for name, function in functions.items()}
    return values | {name: gauc(labels, prob, keys) for name, keys in groups.items()}


def _sentence(metrics: Sequence[str], of: str, reason: str) -> str:
    """Return one sentence for all metrics of a task in a scenario: they share the reason."""
    first, *others = metrics
    told = f" (also {', '.join(others)})" if others else ""
    return f"{first}/{of} is undefined{told}: {reason}"


def _reason(labels: AnyArray, prob: AnyArray) -> str:
    rows, positives, broken = len(labels), int((labels > 0).sum()), int(np.isnan(prob).sum())
    if rows == 0:
        return "there are no rows."
    if broken:
        return f"{broken} of {rows} predictions are not numbers (diverged training?)."
    if positives in (0, rows):
        return f"all {rows} labels are {int(positives > 0)}."
    return "no group has both a positive and a negative row."


def _on_cpu(values: Tensor, dtype: torch.dtype) -> Tensor:
    # A copy even where nothing changes: the caller may reuse its buffer.
    return values.detach().to(device="cpu", dtype=dtype, copy=True)


def _cat(parts: list[Tensor], shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
    return torch.cat([p.cpu() for p in parts]) if parts else torch.empty(shape, dtype=dtype)

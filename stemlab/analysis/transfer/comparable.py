"""Comparable samples: does joint training help users with similar feedback for both tasks (the question of STEM)?

Test samples are divided into buckets by the relative positive feedback of their user (or item) for two tasks. In each
bucket the AUC of every model is compared with the AUC of the single-task model (arXiv 2308.13537;
docs/methods/recscope.md#comparable-samples). The paper does not publish its thresholds, so they are settings here.

Legend: R test samples, B samples of a bucket, T tasks.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Annotated, Any, cast

import numpy as np
import torch
from pydantic import Field

from stemlab.analysis.base import Analysis, Findings, check_same_dataset
from stemlab.analysis.binary_tasks import require_binary_tasks
from stemlab.analysis.fields import user_field
from stemlab.analysis.runs import AnalysedRun
from stemlab.analysis.transfer import comparable_findings as view
from stemlab.analysis.transfer.buckets import (
    COLD,
    Buckets,
    bootstrap_differences,
    bootstrap_interval,
    positives_by_entity,
    quantile_buckets,
    relative_feedback,
    threshold_buckets,
)
from stemlab.analysis.transfer.comparable_findings import TaskPairComparison, TaskPanel
from stemlab.array_types import AnyArray, Float32Array
from stemlab.data.datamodule import ImpressionDataModule
from stemlab.data.io.progress import ProgressBars
from stemlab.errors import StemlabError, nearest
from stemlab.metrics.auc import auc, gauc
from stemlab.types import Fraction, NonNegativeInt, PositiveFloat, PositiveInt

AtLeastTwo = Annotated[int, Field(ge=2)]
_BATCH = 1 << 14


@dataclass(frozen=True)
class RunScores:
    """Logits of a run for all test samples.

    Attributes:
        run: the run.
        logit_RT: (R, tasks of the run) logits.
    """

    run: AnalysedRun
    logit_RT: Float32Array

    def of(self, task: str) -> Float32Array:
        """Return the (R,) logits of a task."""
        return self.logit_RT[:, self.run.tasks.index(task)]


class Comparable(Analysis):
    """AUC difference of every model to the single-task model, by bucket of relative positive feedback.

    Args:
        name: name of the analysis on the command line.
        tasks: tasks to compare in pairs; empty: all tasks with a single-task run.
        entity: field whose feedback defines the buckets; ``None``: the user field.
        buckets: number of buckets with about equal numbers of samples.
        tau: threshold of three buckets instead: r below -tau, from -tau to tau (comparable), above tau; ``None``: use
            ``buckets``.
        normalised: whether positives are divided by all positives of the task, because base rates differ.
        resamples: number of bootstrap resamples of users.
        confidence: confidence level of the intervals.
        seed: seed of the bootstrap.
    """

    def __init__(
        self,
        *,
        name: str,
        tasks: list[str],
        entity: str | None,
        buckets: AtLeastTwo,
        tau: PositiveFloat | None,
        normalised: bool,
        resamples: PositiveInt,
        confidence: Fraction,
        seed: NonNegativeInt,
    ) -> None:
        super().__init__(name=name)
        self.tasks, self.entity, self.buckets, self.tau, self.normalised = tasks, entity, buckets, tau, normalised
        self.resamples, self.confidence, self.seed = resamples, confidence, seed

    def find(self, runs: Sequence[AnalysedRun]) -> Findings:
        """Return the AUC difference of every model in every bucket, with bootstrap intervals.

        Raises:
            StemlabError: too few single-task runs, or a bucket with labels of one class.
        """
        check_same_dataset(runs)
        require_binary_tasks(self.name, runs)
        tasks = self._tasks(runs)
        data = cast(ImpressionDataModule, runs[0].datamodule)
        with ProgressBars() as steps:
            scored = [score(run, steps) for run in runs]
        comparisons = []
        for pair in combinations(tasks, 2):
            buckets = self.split(data, pair)
            panels = tuple(self._panel(data, scored, task, buckets) for task in pair)
            comparisons.append(TaskPairComparison(pair, buckets, panels))
        return view.findings(comparisons, self.confidence, len(runs) - len(tasks))

    def split(self, data: ImpressionDataModule, pair: tuple[str, str]) -> Buckets:
        """Return the buckets of the test samples for two tasks.

        Raises:
            StemlabError: no entity of the test samples occurs in training.
        """
        spec = data.spec
        entity = user_field(spec, self.entity, key="analysis.entity")
        column, size = list(spec.field_sizes).index(entity), spec.field_sizes[entity]
        train, test = data.store("train"), data.store("test")
        tasks = [spec.task_index(task) for task in pair]
        positives_VT, rows_V = positives_by_entity(train.ids[:, column], train.labels[:, tasks], size)
        rows_V[[0, -1]] = 0  # padding and out-of-vocabulary are not entities
        r_V = relative_feedback(positives_VT, self.normalised)
        ids_R = test.ids[:, column]
        known_R = rows_V[ids_R] > 0
        if not known_R.any():
            raise StemlabError(
                f"no {entity} of the test samples occurs in the training samples: set analysis.entity=<field>."
            )
        if self.tau is not None:
            return threshold_buckets(r_V[ids_R], known_R, self.tau)
        return quantile_buckets(r_V[ids_R], known_R, self.buckets)

    def _panel(self, data: ImpressionDataModule, scored: Sequence[RunScores], task: str, buckets: Buckets) -> TaskPanel:
        labels_R = data.store("test").labels[:, data.spec.task_index(task)]
        group_R = bootstrap_groups(data)
        base = next(one for one in scored if not one.run.joint and one.run.tasks == (task,))
        others = [one for one in scored if one is not base and task in one.run.tasks]
        cells: dict[str, dict[int, dict[str, float]]] = {one.run.label: {} for one in (base, *others)}
        left_out = False
        for number in np.unique(buckets.bucket_B).tolist():
            rows = np.flatnonzero(buckets.bucket_B == number)
            labels_B = labels_R[rows]
            if labels_B.min() == labels_B.max():
                left_out |= number == COLD
                _refuse_one_class(number, task, rows, labels_B)
                continue
            measured = self._measure(
                labels_B, base.of(task)[rows], [one.of(task)[rows] for one in others], group_R[rows]
            )
            for one, numbers in zip((base, *others), measured, strict=True):
                cells[one.run.label][number] = numbers
        return TaskPanel(task, base.run.label, cells, left_out)

    def _measure(self, labels_B: Any, base_B: Any, others: Sequence[Any], group_B: Any) -> list[dict[str, float]]:
        """Return the numbers of each model in one bucket, the baseline first."""
        drawn = bootstrap_differences(labels_B, base_B, others, group_B, self.resamples, self.seed)
        first = {"rows": len(labels_B), "positives": int(labels_B.sum())}
        base = {"auc": auc(labels_B, base_B), "gauc": gauc(labels_B, base_B, group_B)}
        measured = [{**first, **base}]
        for scores_B, draws in zip(others, drawn, strict=True):
            own = {"auc": auc(labels_B, scores_B), "gauc": gauc(labels_B, scores_B, group_B)}
            low, high = bootstrap_interval(draws, self.confidence)
            deltas = {f"delta_{key}": own[key] - base[key] for key in own}
            measured.append({**first, **own, **deltas, "low": low, "high": high})
        return measured

    def _tasks(self, runs: Sequence[AnalysedRun]) -> list[str]:
        known = list(runs[0].impressions.tasks)
        for task in self.tasks:
            if task not in known:
                hint = nearest(task, known)
                raise StemlabError(f"analysis.tasks: there is no task {task!r}; there are {', '.join(known)}.{hint}")
        alone = [task for task in self.tasks or known if any(run.tasks == (task,) and not run.joint for run in runs)]
        if len(alone) < 2 or not any(run.joint for run in runs):
            raise StemlabError(
                "comparable needs joint runs and single-task runs of at least two tasks; there are single-task runs of "
                f"{len(alone)} tasks and {sum(run.joint for run in runs)} joint runs. Name all runs in runs=[...]."
            )
        return alone


def _refuse_one_class(number: int, task: str, rows: Any, labels_B: Any) -> None:
    if number != COLD:
        raise StemlabError(
            f"bucket {number + 1} has {len(rows):,} test samples, all {'positive' if labels_B[0] else 'negative'} for "
            f"{task}, so AUC is undefined; decrease analysis.buckets."
        )


def bootstrap_groups(data: ImpressionDataModule) -> AnyArray:
    """Return the bootstrap group of each test sample, (R,): raw group key, else user id, else its own index."""
    store, spec = data.store("test"), data.spec
    if store.group is not None:
        return store.group
    try:
        return store.ids[:, list(spec.field_sizes).index(user_field(spec, None))]
    except StemlabError:
        return np.arange(len(store))


@torch.inference_mode()
def score(run: AnalysedRun, steps: ProgressBars) -> RunScores:
    """Return the logits of a run for the test samples, in dataset order; frees the network afterwards."""
    data = cast(ImpressionDataModule, run.datamodule)
    loader, rows, net = data.test_dataloader(), len(data.store("test")), run.net
    logit_RT = np.empty((rows, len(run.tasks)), dtype=np.float32)
    advance = steps.rows(f"scores of {run.label}", rows)
    for start in range(0, rows, _BATCH):
        batch = loader.take(slice(start, min(start + _BATCH, rows)))
        logit_RT[start : start + len(batch)] = net(batch).logit_BT.float().numpy()
        advance(len(batch))
    del net
    run.release()
    return RunScores(run, logit_RT)

"""Transfer: gain or loss of each task in joint models compared with single-task models, with gates and gradients.

AUC of every joint model minus AUC of the single-task model, for all test samples and by the number of training samples
of the user (or another entity); gradient cosines of the tasks on shared weights; gate shares. The questions come from
STEM (arXiv 2308.13537) and PLE; buckets and intervals are defined by this project (docs/methods/recscope.md#transfer).

Legend: R test samples, B samples of a bucket, V entities, T tasks.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import numpy as np
import torch

from stemlab.analysis.base import Analysis, Findings, check_same_dataset
from stemlab.analysis.binary_tasks import require_binary_tasks
from stemlab.analysis.collapse.tables import training_counts
from stemlab.analysis.fields import user_field
from stemlab.analysis.runs import AnalysedRun
from stemlab.analysis.transfer import findings as view
from stemlab.analysis.transfer.buckets import COLD, bootstrap_differences, bootstrap_interval, quantile_buckets
from stemlab.analysis.transfer.comparable import AtLeastTwo, RunScores, bootstrap_groups, score
from stemlab.analysis.transfer.findings import ALL, RunDiagnostics, TaskGains
from stemlab.analysis.transfer.logged_curves import LoggedCurve, logged_conflicts
from stemlab.array_types import AnyArray, Int64Array
from stemlab.data.datamodule import ImpressionDataModule
from stemlab.data.io.progress import ProgressBars
from stemlab.errors import StemlabError
from stemlab.metrics.auc import auc
from stemlab.models.multitask.diagnostics import diagnose_batch
from stemlab.nn.loss import TaskLosses
from stemlab.nn.task_loss import chosen_losses
from stemlab.types import Fraction, NonNegativeInt, PositiveInt


class Transfer(Analysis):
    """Gain of every joint model over the single-task model, with its gates and gradients.

    Args:
        name: name of the analysis on the command line.
        entity: field whose number of training samples defines the buckets; ``None``: the user field.
        buckets: number of buckets with about equal numbers of test samples.
        rows: number of training samples for gates and gradients.
        resamples: number of bootstrap resamples of groups.
        confidence: confidence level of the intervals.
        seed: seed of the bootstrap.
    """

    def __init__(
        self,
        *,
        name: str,
        entity: str | None,
        buckets: AtLeastTwo,
        rows: PositiveInt,
        resamples: PositiveInt,
        confidence: Fraction,
        seed: NonNegativeInt,
    ) -> None:
        super().__init__(name=name)
        self.entity, self.buckets, self.rows = entity, buckets, rows
        self.resamples, self.confidence, self.seed = resamples, confidence, seed

    def find(self, runs: Sequence[AnalysedRun]) -> Findings:
        """Return gains by task and bucket, gradient cosines and gate shares.

        Raises:
            StemlabError: no joint run, no single-task run, or a bucket with labels of one class.
        """
        check_same_dataset(runs)
        require_binary_tasks(self.name, runs)
        tasks = _tasks(runs)
        joint = [run for run in runs if run.joint]
        data = cast(ImpressionDataModule, runs[0].datamodule)
        names, bucket_R = self.split(data)
        diagnostics = [self._diagnose(run, data) for run in joint]  # before scoring, which runs in inference mode
        with ProgressBars() as steps:
            scored = [score(run, steps) for run in runs]
        gains = tuple(self._gains(data, scored, task, names, bucket_R) for task in tasks)
        curves: list[LoggedCurve] = [curve for run in joint for curve in logged_conflicts(run.label, run.directory)]
        return view.findings(gains, diagnostics, curves, names, self.confidence)

    def split(self, data: ImpressionDataModule) -> tuple[dict[int, str], Int64Array]:
        """Return bucket -> name, and (R,) buckets of the test samples by training samples of their entity, rare first.

        Args:
            data: prepared dataset.

        Raises:
            StemlabError: no entity of the test samples occurs in training.
        """
        spec = data.spec
        entity = user_field(spec, self.entity, key="analysis.entity")
        column, size = list(spec.field_sizes).index(entity), spec.field_sizes[entity]
        count_V = training_counts(data.store("train").ids[:, column], size)
        count_V[[0, -1]] = 0  # padding and out-of-vocabulary are not entities
        count_R = count_V[data.store("test").ids[:, column]]
        if not count_R.any():
            raise StemlabError(
                f"no {entity} of the test samples occurs in the training samples: set analysis.entity=<field>."
            )
        bucket_R = quantile_buckets(count_R.astype(np.float64), count_R > 0, self.buckets).bucket_B
        names = {}
        for number in np.unique(bucket_R).tolist():
            inside = count_R[bucket_R == number]
            names[number] = "cold" if number == COLD else f"F{number + 1} ({inside.min()}-{inside.max()})"
        return names, bucket_R

    def _gains(
        self,
        data: ImpressionDataModule,
        scored: Sequence[RunScores],
        task: str,
        names: dict[int, str],
        bucket_R: AnyArray,
    ) -> TaskGains:
        labels_R = data.store("test").labels[:, data.spec.task_index(task)]
        group_R = bootstrap_groups(data)
        base = next(one for one in scored if not one.run.joint and one.run.tasks == (task,))
        others = [one for one in scored if one is not base and task in one.run.tasks]
        cells: dict[str, dict[str, dict[str, float]]] = {one.run.label: {} for one in (base, *others)}
        left_out = False
        for number, name in {ALL: "all", **names}.items():
            rows = np.arange(len(labels_R)) if number == ALL else np.flatnonzero(bucket_R == number)
            labels_B = labels_R[rows]
            if labels_B.min() == labels_B.max():
                _refuse_one_class(number, name, task, len(rows))
                left_out = True
                continue
            measured = self._measure(labels_B, [one.of(task)[rows] for one in (base, *others)], group_R[rows])
            for one, numbers in zip((base, *others), measured, strict=True):
                cells[one.run.label][name] = numbers
        return TaskGains(task, base.run.label, tuple(one.run.label for one in others if one.run.joint), cells, left_out)

    def _measure(self, labels_B: AnyArray, scores: Sequence[AnyArray], group_B: AnyArray) -> list[dict[str, float]]:
        """Return the numbers of each model in one bucket, the baseline first."""
        drawn = bootstrap_differences(labels_B, scores[0], scores[1:], group_B, self.resamples, self.seed)
        values = [auc(labels_B, scores_B) for scores_B in scores]
        rows = {"rows": len(labels_B), "positives": int(labels_B.sum())}
        measured = [{**rows, "auc": values[0]}]
        for value, draws in zip(values[1:], drawn, strict=True):
            low, high = bootstrap_interval(draws, self.confidence)
            measured.append({**rows, "auc": value, "gain": value - values[0], "low": low, "high": high})
        return measured

    def _diagnose(self, run: AnalysedRun, data: ImpressionDataModule) -> RunDiagnostics:
        """Return gates and gradients for evenly spaced training samples, the same for every run."""
        total = len(data.store("train"))
        rows = np.unique(np.linspace(0, total - 1, min(self.rows, total)).astype(np.int64))
        batch = data.train_loader().take(rows)
        assert batch.labels_BT is not None
        labels_BT: torch.Tensor = batch.labels_BT[:, [run.impressions.task_index(task) for task in run.tasks]]
        model = run.config["model"]
        chosen = chosen_losses(run.tasks, {}, model.get("losses") or {}, model.get("positive_weights") or {})
        losses = TaskLosses(chosen, model.get("loss_form", "logits"))
        result = diagnose_batch(run.net, batch, lambda logit_BT: losses(logit_BT, labels_BT))
        return RunDiagnostics(run.label, result)


def _tasks(runs: Sequence[AnalysedRun]) -> list[str]:
    """Return the tasks that have a single-task run."""
    known = runs[0].impressions.tasks
    alone = [task for task in known if any(run.tasks == (task,) and not run.joint for run in runs)]
    joint = sum(run.joint for run in runs)
    if not alone or not joint:
        raise StemlabError(
            f"transfer needs joint and single-task runs; there are {joint} joint and {len(alone)} single-task runs. "
            "Name all runs in runs=[...], or train them with dataset=... models=[...]."
        )
    return alone


def _refuse_one_class(number: int, name: str, task: str, rows: int) -> None:
    if number != COLD:
        advice = "" if number == ALL else "; decrease analysis.buckets"
        raise StemlabError(
            f"bucket {name} has {rows:,} test samples with equal labels for {task}, so AUC is undefined{advice}."
        )

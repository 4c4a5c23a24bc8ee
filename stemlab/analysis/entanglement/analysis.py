"""Interest entanglement: do tasks disagree on which user-item pairs are close, and does a joint model represent both?

The single-task models define which pairs are close for one task and far for another. The distances of these pairs in
the embedding tables of a joint model show whether it represents both tasks (arXiv 2403.00793;
docs/methods/recscope.md#entanglement). A second seed of a single-task model is required as a control: it shows how much
disagreement is random.

Legend: P pairs, T tasks.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, cast

from pydantic import Field

from stemlab.analysis.base import Analysis, Findings, check_same_dataset
from stemlab.analysis.binary_tasks import require_binary_tasks
from stemlab.analysis.collapse.tables import FieldTable
from stemlab.analysis.entanglement import findings as view
from stemlab.analysis.entanglement.conflict import TableDistances, table_distances
from stemlab.analysis.entanglement.pair_distances import Metric, active, kept_rows, pair_distances
from stemlab.analysis.fields import item_field, user_field
from stemlab.analysis.runs import AnalysedRun
from stemlab.array_types import Int8Array, Int32Array
from stemlab.data.datamodule import ImpressionDataModule
from stemlab.data.io.progress import ProgressBars
from stemlab.data.spec import DatasetSpec
from stemlab.errors import StemlabError, nearest

Percentile = Annotated[float, Field(ge=0, le=100)]
Bins = Annotated[int, Field(gt=0, le=254)]


@dataclass(frozen=True)
class TestPairs:
    """User-item pairs of the test samples after the activity filter.

    Attributes:
        user_P: row indices in the user table.
        item_P: row indices in the item table.
        labels_PT: labels.
        rows: number of test samples before the filter.
        users: number of users after the filter.
        items: number of items after the filter.
    """

    user_P: Int32Array
    item_P: Int32Array
    labels_PT: Int8Array
    rows: int
    users: int
    items: int


class Entanglement(Analysis):
    """Pairs in conflict between single-task models, and their distances in joint models.

    Args:
        name: name of the analysis on the command line.
        tasks: tasks to compare, every ordered pair of them; empty: all tasks with a single-task run.
        user_field: user field; ``None``: the dataset's group field, else ``uid`` or ``user_id``.
        item_field: item field; ``None``: ``item_id``, ``iid``, ``video_id`` or ``movie_id``.
        metric: distance; ``euclidean`` as in the released code.
        activity: percentile of the number of training samples that users and items must exceed.
        near: percentile up to which a pair is close.
        far: percentile above which a pair is far.
        keep_padding_oov: whether padding and out-of-vocabulary count as users and items (as in the released code).
        bins: number of histogram bins.
        rounded_bins: whether bin edges are rounded to three digits (as in the released code).
    """

    def __init__(
        self,
        *,
        name: str,
        tasks: list[str],
        user_field: str | None,
        item_field: str | None,
        metric: Metric,
        activity: Percentile,
        near: Percentile,
        far: Percentile,
        keep_padding_oov: bool,
        bins: Bins,
        rounded_bins: bool,
    ) -> None:
        super().__init__(name=name)
        if near > far:
            raise StemlabError(f"analysis.near={near:g} must not be greater than analysis.far={far:g}.")
        self.tasks, self.user_field, self.item_field, self.metric = tasks, user_field, item_field, metric
        self.activity, self.limits, self.keep_padding_oov = activity, (near, far), keep_padding_oov
        self.bins, self.rounded_bins = bins, rounded_bins

    def find(self, runs: Sequence[AnalysedRun]) -> Findings:
        """Return the conflicts of the tasks and their retention in every model.

        Raises:
            StemlabError: fewer than two tasks have a single-task run, or no task has a second seed.
        """
        check_same_dataset(runs)
        require_binary_tasks(self.name, runs)
        singles, controls = self._single_runs(runs)
        fields = self._fields(runs[0].impressions)
        data = cast(ImpressionDataModule, runs[0].datamodule)
        pairs = self.pairs(data, fields)
        found: list[TableDistances] = []
        with ProgressBars() as steps:
            for run in runs:
                views = list(_views(run, fields))
                advance = steps.rows(f"distances of {run.label}", len(pairs.user_P) * len(views))
                found += [self.measure(run, task, tables, pairs, advance) for task, tables in views]
                views.clear()
                run.release()
            by_run = {run.label: [one for one in found if one.run == run.label] for run in runs}
            evidence = view.ConflictData(
                tasks=tuple(singles),
                singles={task: by_run[run.label][0] for task, run in singles.items()},
                controls={task: by_run[run.label][0] for task, run in controls.items()},
                joint={run.label: by_run[run.label] for run in runs if run.joint},
                columns=tuple(found),
                labels_PT={task: pairs.labels_PT[:, data.spec.task_index(task)] for task in singles},
            )
            kept = view.FilterCounts(pairs.rows, len(pairs.user_P), pairs.users, pairs.items, self.limits)
            steps.rows("conflicts", kept.pairs)  # shows the elapsed time only
            return view.findings(evidence, kept)

    def measure(
        self, run: AnalysedRun, task: str, tables: tuple[FieldTable, FieldTable], pairs: TestPairs, advance: Any
    ) -> TableDistances:
        """Return the distances of all pairs in one pair of user and item tables."""
        user, item = (table.weight_VD for table in tables)
        distance_P = pair_distances(user, item, pairs.user_P, pairs.item_P, self.metric, advance)
        role = tables[0].role.removeprefix("task:")
        label = run.label if not run.joint else f"{run.label} {role}"
        return table_distances(label, run.label, task, distance_P, self.limits, self.bins, self.rounded_bins)

    def pairs(self, data: ImpressionDataModule, fields: tuple[str, str]) -> TestPairs:
        """Return the test pairs of active users and items.

        Raises:
            StemlabError: the filter leaves fewer than two pairs.
        """
        sizes = data.spec.field_sizes
        columns = [list(sizes).index(field) for field in fields]
        train, test = data.store("train"), data.store("test")
        masks = [
            active(train.ids[:, column], sizes[field], self.activity, self.keep_padding_oov)
            for column, field in zip(columns, fields, strict=True)
        ]
        rows = kept_rows(test.ids[:, columns[0]], test.ids[:, columns[1]], *masks)
        if len(rows) < 2:
            raise StemlabError(
                f"{len(rows)} of {len(test):,} test samples have a user and an item with more training samples than "
                f"percentile {self.activity:g}: decrease analysis.activity."
            )
        user_P, item_P = (test.ids[:, column][rows] for column in columns)
        return TestPairs(user_P, item_P, test.labels[rows], len(test), int(masks[0].sum()), int(masks[1].sum()))

    def _single_runs(self, runs: Sequence[AnalysedRun]) -> tuple[dict[str, AnalysedRun], dict[str, AnalysedRun]]:
        """Return the first single-task run of every task, and the second one of the tasks that have two."""
        known = runs[0].impressions.tasks
        for task in self.tasks:
            if task not in known:
                raise StemlabError(
                    f"analysis.tasks: there is no task {task!r}; there are {', '.join(known)}.{nearest(task, known)}"
                )
        alone: dict[str, list[AnalysedRun]] = {}
        for run in runs:
            if not run.joint:
                alone.setdefault(run.tasks[0], []).append(run)
        chosen = {task: alone[task] for task in self.tasks or known if task in alone}
        missing = [task for task in self.tasks if task not in alone]
        if missing or len(chosen) < 2:
            counts = ", ".join(f"{task}: {len(alone.get(task, []))}" for task in self.tasks or known)
            raise StemlabError(
                f"entanglement needs single-task runs of at least two tasks ({counts}). Train "
                "model=single_task model.task=<task> for each task and name all runs in runs=[...]."
            )
        controls = {task: found[1] for task, found in chosen.items() if len(found) > 1}
        if not controls:
            raise StemlabError(
                "entanglement needs a second seed of a single-task model as its control: train one (model=single_task "
                f"model.task={next(iter(chosen))} seed=...) and add it to runs=[...]."
            )
        return {task: found[0] for task, found in chosen.items()}, controls

    def _fields(self, spec: DatasetSpec) -> tuple[str, str]:
        return user_field(spec, self.user_field), item_field(spec, self.item_field)


def _views(run: AnalysedRun, fields: tuple[str, str]) -> Iterator[tuple[str, tuple[FieldTable, FieldTable]]]:
    """Yield the user and item table of each role, with the task if they belong to a single task."""
    tables = {(table.field, table.role): table for table in run.tables}
    roles = [role for field, role in tables if field == fields[0] and (fields[1], role) in tables]
    for role in roles:
        task = role.removeprefix("task:") if role.startswith("task:") else ""
        if len(run.tasks) == 1:
            task = run.tasks[0]
        yield task, (tables[fields[0], role], tables[fields[1], role])

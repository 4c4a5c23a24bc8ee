"""Findings of the entanglement analysis: conflicts and retention as numbers, matrices and histograms.

Legend: P pairs, N bins.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import permutations
from statistics import fmean
from typing import Any

import matplotlib
import numpy as np
from matplotlib.figure import Figure

from stemlab.analysis import plots
from stemlab.analysis.base import CaptionedFigure, Findings, Matrix
from stemlab.analysis.correlation.agreement import average_ranks, pearson
from stemlab.analysis.entanglement.conflict import TableDistances, retention
from stemlab.array_types import AnyArray, BoolArray
from stemlab.metrics.auc import auc

NEAR, MIDDLE, FAR = "#58A658", "#4E84B5", "#ED8C3D"
_DRAWN = 1_000_000
"""Largest number of pairs used for rank correlations and AUC."""

_READING = (
    "A user-item pair is close for a task if the distance of its embeddings is small in the single-task model of the "
    "task. Pairs that are close for one task and far for another are the conflict. In the histograms, the coloured "
    "part of a bar counts the pairs in conflict and the hatched part all other pairs. Green bins hold the closest "
    "pairs of that table, orange bins the farthest.",
    "In a joint model that represents both tasks, the conflict is green in the table of the first task and orange in "
    "the table of the second task. Retention is the mean of two shares: pairs in conflict that are close in the first "
    "table, and pairs in conflict that are far in the second table. If both tasks share one table, a pair cannot be "
    "close and far, and retention is at most 0.5.",
    "The control is the single-task model with another seed; the part of the conflict that it does not retain is "
    "random. Distances between embeddings of a network with hidden layers are not trained to measure preference. The "
    "analysis is therefore descriptive; it does not prove a cause.",
)


@dataclass(frozen=True)
class FilterCounts:
    """Counts of the activity filter.

    Attributes:
        rows: number of test samples before the filter.
        pairs: number of pairs after the filter.
        users: number of active users.
        items: number of active items.
        limits: percentiles of close and far pairs.
    """

    rows: int
    pairs: int
    users: int
    items: int
    limits: tuple[float, float]


@dataclass(frozen=True)
class ConflictData:
    """Distances of all models.

    Attributes:
        tasks: compared tasks.
        singles: task -> distances of its single-task model.
        controls: task -> distances of its second seed, if there is one.
        joint: label of a joint run -> distances of its tables.
        columns: all distances, in the order of the runs.
        labels_PT: task -> (P,) labels.
    """

    tasks: tuple[str, ...]
    singles: Mapping[str, TableDistances]
    controls: Mapping[str, TableDistances]
    joint: Mapping[str, Sequence[TableDistances]]
    columns: tuple[TableDistances, ...]
    labels_PT: Mapping[str, AnyArray]

    def view(self, run: str, task: str) -> TableDistances | None:
        """Return a joint run's distances in its table of a task, or in its only table; ``None`` if it has neither."""
        own = [one for one in self.joint[run] if one.task == task]
        return own[0] if own else self.joint[run][0] if len(self.joint[run]) == 1 else None


def findings(evidence: ConflictData, kept: FilterCounts) -> Findings:
    """Return the findings."""
    conflicts = {
        (a, b): evidence.singles[a].near() & evidence.singles[b].far() for a, b in permutations(evidence.tasks, 2)
    }
    numbers = {
        f"{a} near, {b} far": _conflict_numbers(evidence, a, b, chosen, kept) for (a, b), chosen in conflicts.items()
    }
    retained = _retention_matrix(evidence, conflicts)
    return Findings(
        title="Interest entanglement",
        verdict=_verdict(evidence, conflicts, retained),
        reading=_READING,
        numbers={
            "rows": kept.rows,
            "pairs": kept.pairs,
            "users": kept.users,
            "items": kept.items,
            "conflicts": numbers,
            "noise": _noise(evidence),
            "limits": {one.label: {"near": float(one.low), "far": float(one.high)} for one in evidence.columns},
        },
        matrices={
            "retention": retained,
            "rank_correlation": _correlations(evidence),
            "label_auc": _label_auc(evidence),
            **{f"bins_{a}_{b}": _bin_matrix(evidence, chosen) for (a, b), chosen in conflicts.items()},
        },
        figures={f"conflict_{a}_{b}": _panels(evidence, a, b, chosen) for (a, b), chosen in conflicts.items()},
        notes=_notes(evidence),
    )


def _conflict_numbers(
    evidence: ConflictData, near: str, far: str, chosen_P: BoolArray, kept: FilterCounts
) -> dict[str, Any]:
    count = int(chosen_P.sum())
    shares = {one.label: one.shares(chosen_P) for one in evidence.columns}
    return {
        "pairs": count,
        "share_of_pairs": count / kept.pairs,
        "share_of_rows": count / kept.rows,
        "share_if_independent": kept.limits[0] / 100 * (1 - kept.limits[1] / 100),
        "shares": {label: dict(zip(("near", "middle", "far"), parts, strict=True)) for label, parts in shares.items()},
        "opposite_sides_of_median": _opposite(evidence.singles[near], evidence.singles[far]),
    }


def _opposite(one: TableDistances, other: TableDistances) -> float:
    """Return the share of pairs below the median in one model and above it in the other."""
    sides = [column.distance_P > np.median(column.distance_P) for column in (one, other)]
    return float((sides[0] != sides[1]).mean())


def _noise(evidence: ConflictData) -> dict[str, Any]:
    """Return the disagreement between two seeds of the same single-task model."""
    return {
        task: {
            "near_then_far": float((evidence.singles[task].near() & control.far()).mean()),
            "far_then_near": float((evidence.singles[task].far() & control.near()).mean()),
            "opposite_sides_of_median": _opposite(evidence.singles[task], control),
        }
        for task, control in evidence.controls.items()
    }


def _retention_matrix(evidence: ConflictData, conflicts: Mapping[tuple[str, str], BoolArray]) -> Matrix:
    """Return one row per model and three columns per conflict: share close, share far, their mean."""
    rows = {"single-task (definition)": evidence.singles, "control (another seed)": evidence.controls}
    views: dict[str, Mapping[str, TableDistances | None]] = {
        **rows,
        **{run: {task: evidence.view(run, task) for task in evidence.tasks} for run in evidence.joint},
    }
    columns = [f"{a} near, {b} far: {what}" for a, b in conflicts for what in ("near kept", "far kept", "retention")]
    values = [
        [value for (a, b), chosen in conflicts.items() for value in _kept(by_task.get(a), by_task.get(b), chosen)]
        for by_task in views.values()
    ]
    return Matrix(list(views), columns, np.array(values), "model")


def _kept(near: TableDistances | None, far: TableDistances | None, chosen_P: BoolArray) -> tuple[float, float, float]:
    """Return share close, share far and their mean; if one table is missing, the share of the other one."""
    if near is not None and far is not None:
        found = retention(chosen_P, near, far)
        return found.near, found.far, found.score
    close = near.shares(chosen_P)[0] if near is not None else float("nan")
    distant = far.shares(chosen_P)[2] if far is not None else float("nan")
    return close, distant, close if near is not None else distant


def _drawn(evidence: ConflictData) -> Any:
    """Return the pairs for rank correlation and AUC: all, or a million drawn with a fixed seed."""
    count = len(evidence.columns[0].distance_P)
    if count <= _DRAWN:
        return slice(None)
    return np.sort(np.random.default_rng(0).integers(0, count, _DRAWN))


def _correlations(evidence: ConflictData) -> Matrix:
    names, drawn = [one.label for one in evidence.columns], _drawn(evidence)
    values = [average_ranks(one.distance_P[drawn]) for one in evidence.columns]  # each array is sorted once
    return Matrix(names, names, np.array([[pearson(one, other) for other in values] for one in values]), "distance")


def _label_auc(evidence: ConflictData) -> Matrix:
    """Return the AUC of the negative distance for each label."""
    drawn = _drawn(evidence)
    values = [
        [auc(labels_P[drawn], -one.distance_P[drawn]) for labels_P in evidence.labels_PT.values()]
        for one in evidence.columns
    ]
    return Matrix([one.label for one in evidence.columns], list(evidence.labels_PT), np.array(values), "distance")


def _bin_matrix(evidence: ConflictData, chosen_P: BoolArray) -> Matrix:
    """Return edges and counts of all histograms of a conflict."""
    rows, values = [], []
    for one in evidence.columns:
        conflict_N, other_N = one.counts(chosen_P)
        for number, (left, right) in enumerate(zip(one.edges[:-1], one.edges[1:], strict=True)):
            rows.append(f"{one.label}/{number}")
            values.append((left, right, conflict_N[number], other_N[number]))
    return Matrix(rows, ("left", "right", "conflict", "other"), np.array(values), "distance/bin")


def _verdict(evidence: ConflictData, conflicts: Mapping[tuple[str, str], BoolArray], retained: Matrix) -> str:
    means = {name: np.nanmean(row[2::3]) for name, row in zip(retained.rows, retained.values, strict=True)}
    share = fmean(float(chosen.mean()) for chosen in conflicts.values())
    noise = fmean(value["near_then_far"] for value in _noise(evidence).values())
    control = f"another seed {means['control (another seed)']:.2f}"
    joint = [f"{name} {means[name]:.2f}" for name in evidence.joint if means[name] == means[name]]
    return (
        f"{share:.1%} of the pairs are close for one task and far for another ({noise:.1%} for two seeds of one "
        f"task). Retention: {', '.join([control, *joint])}; at most 0.50 "
        "if all tasks share one table."
    )


def _notes(evidence: ConflictData) -> list[str]:
    no_task_table = [run for run in evidence.joint if any(evidence.view(run, task) is None for task in evidence.tasks)]
    no_control = [task for task in evidence.tasks if task not in evidence.controls]
    notes = [
        f"{run}: no table belongs to a single task, so shares are reported but no retention." for run in no_task_table
    ]
    if no_control:
        notes.append(f"No second seed of {', '.join(no_control)}: the control is missing.")
    if isinstance(_drawn(evidence), np.ndarray):
        notes.append(f"Rank correlations and AUC use {_DRAWN:,} pairs drawn with a fixed seed.")
    return notes


def _panels(evidence: ConflictData, near: str, far: str, chosen_P: BoolArray) -> CaptionedFigure:
    """Draw one histogram per table: conflict in colour, all other pairs hatched on top (layout of the notebook)."""
    columns = evidence.columns
    across = min(3, len(columns))
    down = -(-len(columns) // across)
    with matplotlib.rc_context(plots.FIGURE_STYLE):
        figure: Figure = plots.blank(3.4 * across, 2.2 * down)
        for number, one in enumerate(columns):
            axes = figure.add_subplot(down, across, number + 1)
            _panel(axes, one, chosen_P)
        figure.suptitle(f"close for {near}, far for {far}", fontsize=10)
    return CaptionedFigure(
        figure, f"Pairs close for {near} and far for {far} (coloured) in the distances of every table."
    )


def _panel(axes: Any, one: TableDistances, chosen_P: BoolArray) -> None:
    conflict_N, other_N = one.counts(chosen_P)
    bins = np.arange(len(conflict_N))
    axes.bar(bins, conflict_N, width=1.0, color=[bin_colour(one, int(number)) for number in bins])
    axes.bar(bins, other_N, width=1.0, bottom=conflict_N, color="white", edgecolor="0.6", hatch="////", linewidth=0.3)
    axes.set_title(one.label, fontsize=8)
    axes.set(xlabel="bin", ylabel="pairs")
    axes.tick_params(labelsize=7)


def bin_colour(one: TableDistances, number: int) -> str:
    """Return orange if the bin ends among the far pairs, else green if it begins among the close pairs, else blue."""
    if one.edges[number + 1] > one.high:
        return FAR
    return NEAR if one.edges[number] <= one.low else MIDDLE

"""Conflicts and retention as numbers, tables and histogram panels.

Legend: P pairs, M columns (distances), N bins.
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
from stemlab.analysis.base import Drawing, Findings, Matrix
from stemlab.analysis.correlation.agreement import pearson, ranks
from stemlab.analysis.entanglement.conflict import Column, retention
from stemlab.array_types import AnyArray, BoolArray
from stemlab.metrics.auc import auc

NEAR, MIDDLE, FAR = "#58A658", "#4E84B5", "#ED8C3D"
_DRAWN = 1_000_000
"""Pairs from which correlations and AUC are computed, where there are more."""

READING = (
    "A pair of user and item is close for a task if the single-task model of that task puts their embeddings close to "
    "each other. Pairs that are close for one task and far for another are the conflict; in the panels they are the "
    "coloured part of the bars, all other pairs are hatched. Green bins hold the closest pairs of that table, orange "
    "ones the farthest.",
    "A joint model that keeps both views shows the conflict in green in its table for the first task and in orange in "
    "its table for the second. With one table for both tasks the same pairs cannot be close and far, so retention "
    "(the share that is close where it should be and far where it should be, averaged) cannot exceed 0.5.",
    "The control is the same single-task model with another seed: what it does not keep is chance, and no joint model "
    "should be blamed for it. Distances between tables of a network with hidden layers are not trained to mean "
    "closeness, so all of this describes and proves nothing.",
)


@dataclass(frozen=True)
class Kept:
    """What the filter left."""

    rows: int
    pairs: int
    users: int
    items: int
    limits: tuple[float, float]


@dataclass(frozen=True)
class Evidence:
    """All distances, and whose they are.

    Attributes:
        tasks: compared tasks.
        singles: task -> distances of its single-task model.
        controls: task -> the same with another seed, where there is one.
        joint: label of a joint run -> distances of its tables.
        columns: all of these.
        labels_PT: task -> (P,) labels.
    """

    tasks: tuple[str, ...]
    singles: Mapping[str, Column]
    controls: Mapping[str, Column]
    joint: Mapping[str, Sequence[Column]]
    columns: tuple[Column, ...]
    labels_PT: Mapping[str, AnyArray]

    def view(self, run: str, task: str) -> Column | None:
        """The table in which a joint model sees a task: its own, or the only one; ``None`` if neither is there."""
        own = [one for one in self.joint[run] if one.task == task]
        return own[0] if own else self.joint[run][0] if len(self.joint[run]) == 1 else None


def findings(evidence: Evidence, kept: Kept) -> Findings:
    """Return what the distances say."""
    modes = {(a, b): evidence.singles[a].near() & evidence.singles[b].far() for a, b in permutations(evidence.tasks, 2)}
    numbers = {f"{a} near, {b} far": _mode(evidence, a, b, chosen, kept) for (a, b), chosen in modes.items()}
    retained = _retention_matrix(evidence, modes)
    return Findings(
        title="Interest entanglement",
        verdict=_verdict(evidence, modes, retained),
        reading=READING,
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
            **{f"bins_{a}_{b}": _bin_matrix(evidence, chosen) for (a, b), chosen in modes.items()},
        },
        drawings={f"conflict_{a}_{b}": _panels(evidence, a, b, chosen) for (a, b), chosen in modes.items()},
        notes=_notes(evidence),
    )


def _mode(evidence: Evidence, near: str, far: str, chosen_P: BoolArray, kept: Kept) -> dict[str, Any]:
    count = int(chosen_P.sum())
    shares = {one.label: one.shares(chosen_P) for one in evidence.columns}
    return {
        "pairs": count,
        "share_of_pairs": count / kept.pairs,
        "share_of_rows": count / kept.rows,
        "share_if_independent": kept.limits[0] / 100 * (1 - kept.limits[1] / 100),
        "shares": {label: dict(zip(("near", "middle", "far"), told, strict=True)) for label, told in shares.items()},
        "opposite_sides_of_median": _opposite(evidence.singles[near], evidence.singles[far]),
    }


def _opposite(one: Column, other: Column) -> float:
    """Share of pairs on different sides of the two medians."""
    sides = [column.distance_P > np.median(column.distance_P) for column in (one, other)]
    return float((sides[0] != sides[1]).mean())


def _noise(evidence: Evidence) -> dict[str, Any]:
    """What two seeds of the same single-task model disagree on."""
    return {
        task: {
            "near_then_far": float((evidence.singles[task].near() & control.far()).mean()),
            "far_then_near": float((evidence.singles[task].far() & control.near()).mean()),
            "opposite_sides_of_median": _opposite(evidence.singles[task], control),
        }
        for task, control in evidence.controls.items()
    }


def _retention_matrix(evidence: Evidence, modes: Mapping[tuple[str, str], BoolArray]) -> Matrix:
    """A row a model, three columns a conflict: kept close, kept far, their mean."""
    rows = {"single-task (definition)": evidence.singles, "control (another seed)": evidence.controls}
    views: dict[str, Mapping[str, Column | None]] = {
        **rows,
        **{run: {task: evidence.view(run, task) for task in evidence.tasks} for run in evidence.joint},
    }
    columns = [f"{a} near, {b} far: {what}" for a, b in modes for what in ("near kept", "far kept", "retention")]
    values = [
        [value for (a, b), chosen in modes.items() for value in _kept(by_task.get(a), by_task.get(b), chosen)]
        for by_task in views.values()
    ]
    return Matrix(list(views), columns, np.array(values), "model")


def _kept(near: Column | None, far: Column | None, chosen_P: BoolArray) -> tuple[float, float, float]:
    """What is close, what is far, and the mean; with one of the two views missing, of the one that is there."""
    if near is not None and far is not None:
        found = retention(chosen_P, near, far)
        return found.near, found.far, found.score
    close = near.shares(chosen_P)[0] if near is not None else float("nan")
    distant = far.shares(chosen_P)[2] if far is not None else float("nan")
    return close, distant, close if near is not None else distant


def _drawn(evidence: Evidence) -> Any:
    """All pairs, or a million of them drawn with a fixed seed."""
    count = len(evidence.columns[0].distance_P)
    if count <= _DRAWN:
        return slice(None)
    return np.sort(np.random.default_rng(0).integers(0, count, _DRAWN))


def _correlations(evidence: Evidence) -> Matrix:
    names, drawn = [one.label for one in evidence.columns], _drawn(evidence)
    values = [ranks(one.distance_P[drawn]) for one in evidence.columns]  # sorted once each
    return Matrix(names, names, np.array([[pearson(one, other) for other in values] for one in values]), "distance")


def _label_auc(evidence: Evidence) -> Matrix:
    """How well closeness predicts each label."""
    drawn = _drawn(evidence)
    values = [
        [auc(labels_P[drawn], -one.distance_P[drawn]) for labels_P in evidence.labels_PT.values()]
        for one in evidence.columns
    ]
    return Matrix([one.label for one in evidence.columns], list(evidence.labels_PT), np.array(values), "distance")


def _bin_matrix(evidence: Evidence, chosen_P: BoolArray) -> Matrix:
    """Bounds and counts of all panels of a conflict."""
    rows, values = [], []
    for one in evidence.columns:
        conflict_N, other_N = one.counts(chosen_P)
        for number, (left, right) in enumerate(zip(one.edges[:-1], one.edges[1:], strict=True)):
            rows.append(f"{one.label}/{number}")
            values.append((left, right, conflict_N[number], other_N[number]))
    return Matrix(rows, ("left", "right", "conflict", "other"), np.array(values), "distance/bin")


def _verdict(evidence: Evidence, modes: Mapping[tuple[str, str], BoolArray], retained: Matrix) -> str:
    means = {name: np.nanmean(row[2::3]) for name, row in zip(retained.rows, retained.values, strict=True)}
    share = fmean(float(chosen.mean()) for chosen in modes.values())
    noise = fmean(value["near_then_far"] for value in _noise(evidence).values())
    told = [f"{name} keeps {means[name]:.2f}" for name in evidence.joint if means[name] == means[name]]
    return (
        f"{share:.1%} of the pairs are close for one task and far for another ({noise:.1%} for two seeds of one "
        f"task). Of this disagreement another seed keeps {means['control (another seed)']:.2f}"
        f"{', ' if told else ''}{', '.join(told)}; one table for all tasks keeps 0.50 at most."
    )


def _notes(evidence: Evidence) -> list[str]:
    blind = [run for run in evidence.joint if any(evidence.view(run, task) is None for task in evidence.tasks)]
    without = [task for task in evidence.tasks if task not in evidence.controls]
    notes = [f"{run}: its tables belong to no task alone, so it has shares but no retention." for run in blind]
    if without:
        notes.append(f"No second seed of {', '.join(without)}: its side of the control is missing.")
    if isinstance(_drawn(evidence), np.ndarray):
        notes.append(f"Rank correlations and AUC are those of {_DRAWN:,} pairs drawn with a fixed seed.")
    return notes


def _panels(evidence: Evidence, near: str, far: str, chosen_P: BoolArray) -> Drawing:
    """A histogram a column: conflict solid, all other pairs hatched on top (published layout)."""
    columns = evidence.columns
    across = min(3, len(columns))
    down = -(-len(columns) // across)
    with matplotlib.rc_context(plots.STYLE):
        figure: Figure = plots.blank(3.4 * across, 2.2 * down)
        for number, one in enumerate(columns):
            axes = figure.add_subplot(down, across, number + 1)
            _panel(axes, one, chosen_P)
        figure.suptitle(f"close for {near}, far for {far}", fontsize=10)
    return Drawing(figure, f"Pairs close for {near} and far for {far} (coloured) in the distances of every table.")


def _panel(axes: Any, one: Column, chosen_P: BoolArray) -> None:
    conflict_N, other_N = one.counts(chosen_P)
    place = np.arange(len(conflict_N))
    axes.bar(place, conflict_N, width=1.0, color=[bin_colour(one, int(number)) for number in place])
    axes.bar(place, other_N, width=1.0, bottom=conflict_N, color="white", edgecolor="0.6", hatch="////", linewidth=0.3)
    axes.set_title(one.label, fontsize=8)
    axes.set(xlabel="bin", ylabel="pairs")
    axes.tick_params(labelsize=7)


def bin_colour(one: Column, number: int) -> str:
    """Green where a bin begins among the closest pairs, orange where it ends among the farthest, else blue."""
    if one.edges[number + 1] > one.high:
        return FAR
    return NEAR if one.edges[number] <= one.low else MIDDLE

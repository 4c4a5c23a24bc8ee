"""Gains, conflicts and gates as numbers, tables and figures."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import matplotlib
import numpy as np
from matplotlib.patches import Patch

from stemlab.analysis import plots
from stemlab.analysis.base import Drawing, Findings, Matrix
from stemlab.analysis.transfer.logged_curves import Curve
from stemlab.models.multitask.diagnostics import Inside

ALL = -2
"""The bucket of all test rows."""
COLUMNS = ("rows", "positives", "auc", "gain", "low", "high")
READING = (
    "A cell of the transfer matrix is a model's AUC on a task minus that of the single-task model, in thousandths, for "
    "all test rows and by how often their user was in the training rows (F1 rarest; cold: never). Blue: learning "
    "together helped. Red: it did harm (negative transfer). The bars show the same, with bootstrap intervals over "
    "groups.",
    "A gradient cosine of two tasks says whether their losses pull the weights that both train the same way (1), "
    "independently (0) or against each other (-1): tables are embedding rows that both train, experts all other such "
    "weights. A model that keeps tasks apart has fewer shared weights, and the cosine is of these alone.",
    "A gate's shares say from whose experts a task reads. A share near zero is an expert group that the task does not "
    "use; the number of experts in use is exp(entropy) of the mean share of all gates. MMFI has a gate for every pair "
    "of fields (layer 1) and for every field (layer 2): the shares are means over these, of the rows' own scenarios.",
)


@dataclass(frozen=True)
class Gains:
    """One task's part.

    Attributes:
        task: the task.
        baseline: label of its single-task run.
        joint: labels of the joint runs.
        cells: label -> bucket's name -> numbers; the baseline has no gain. Other single-task runs of the task (seeds)
            are there as a control.
        cold_left_out: whether the cold bucket has one class only.
    """

    task: str
    baseline: str
    joint: tuple[str, ...]
    cells: Mapping[str, Mapping[str, Mapping[str, float]]]
    cold_left_out: bool

    @property
    def compared(self) -> list[str]:
        """Labels with gains."""
        return [label for label in self.cells if label != self.baseline]


@dataclass(frozen=True)
class Interior:
    """Gates and gradients of a run."""

    label: str
    inside: Inside

    def experts_in_use(self) -> list[float]:
        """Return, a layer, exp(entropy) of the mean share of its gates."""
        return [_in_use(layer) for layer in self.inside.gates]


def _in_use(layer: Mapping[str, Mapping[str, float]]) -> float:
    total: dict[str, float] = {}
    for shares in layer.values():
        for group, share in shares.items():
            total[group] = total.get(group, 0.0) + share / len(layer)
    share_E = np.array([share for share in total.values() if share > 0])
    return float(np.exp(-(share_E * np.log(share_E)).sum()))


def findings(
    gains: Sequence[Gains],
    interiors: Sequence[Interior],
    curves: Sequence[Curve],
    buckets: Mapping[int, str],
    confidence: float,
) -> Findings:
    """Return what gains, conflicts and gates say.

    Args:
        gains: a task each.
        interiors: of the joint runs.
        curves: conflicts over the epochs, of runs that logged them.
        buckets: number -> name.
        confidence: of the intervals.
    """
    columns = ["all", *(name for _, name in sorted(buckets.items(), key=lambda pair: (pair[0] < 0, pair[0])))]
    matrix = _gain_matrix(gains, columns)
    return Findings(
        title="Transfer",
        verdict=" ".join([*map(_verdict, gains), _conflict_verdict(interiors)]).strip(),
        reading=READING,
        numbers={
            "confidence": confidence,
            "tasks": {one.task: {"baseline": one.baseline, "models": _plain(one.cells)} for one in gains},
            "interiors": {one.label: _inside_numbers(one) for one in interiors},
            "conflicts_by_epoch": [
                {"run": c.label, "name": c.name, "epochs": list(c.epochs), "values": list(c.values)} for c in curves
            ],
        },
        matrices={"gain": matrix, **{f"gain_{one.task}": _long(one) for one in gains}, **_tables(interiors)},
        drawings=_drawings(gains, interiors, curves, columns, matrix),
        notes=[*_left_out(gains), *_without(interiors)],
    )


def _verdict(gains: Gains) -> str:
    told = [
        f"{label} {1000 * cell['gain']:+.1f} [{1000 * cell['low']:+.1f}, {1000 * cell['high']:+.1f}]"
        for label in gains.joint
        for cell in [gains.cells[label]["all"]]
    ]
    return f"{gains.task}, AUC against single-task, ‰: {'; '.join(told)}."


def _conflict_verdict(interiors: Sequence[Interior]) -> str:
    told = [
        f"{one.label} {a}-{b} {parts['tables']:+.2f}"
        for one in interiors
        for (a, b), parts in one.inside.cosines.items()
        if parts["tables"] == parts["tables"]
    ]
    return f"Gradient cosine on shared tables: {'; '.join(told)}." if told else ""


def _plain(cells: Mapping[str, Mapping[str, Mapping[str, float]]]) -> dict[str, Any]:
    return {label: {name: dict(cell) for name, cell in inner.items()} for label, inner in cells.items()}


def _inside_numbers(one: Interior) -> dict[str, Any]:
    return {
        "gradient_cosine": {f"{a}-{b}": dict(parts) for (a, b), parts in one.inside.cosines.items()},
        "gates": [{gate: dict(shares) for gate, shares in layer.items()} for layer in one.inside.gates],
        "experts_in_use": one.experts_in_use(),
    }


def _gain_matrix(gains: Sequence[Gains], columns: Sequence[str]) -> Matrix:
    """Model and task -> gain in thousandths, in each bucket."""
    rows, values = [], []
    for one in gains:
        for label in one.compared:
            rows.append(f"{label}: {one.task}")
            cells = one.cells[label]
            values.append([1000 * cells.get(name, {}).get("gain", np.nan) for name in columns])
    return Matrix(rows, columns, np.array(values), "model: task")


def _long(one: Gains) -> Matrix:
    rows = [f"{label}/{name}" for label, cells in one.cells.items() for name in cells]
    values = [[cell.get(key, np.nan) for key in COLUMNS] for cells in one.cells.values() for cell in cells.values()]
    return Matrix(rows, COLUMNS, np.array(values), "model/bucket")


def _tables(interiors: Sequence[Interior]) -> dict[str, Matrix]:
    """Cosines of all runs in one table; gates, which have other experts in each run, in one a layer and run."""
    found = {}
    rows = [f"{one.label}: {a}-{b}" for one in interiors for a, b in one.inside.cosines]
    values = [list(parts.values()) for one in interiors for parts in one.inside.cosines.values()]
    if rows:
        found["gradient_cosine"] = Matrix(rows, ("tables", "experts"), np.array(values), "model: tasks")
    return found | {name: matrix for name, _, matrix in _gates(interiors)}


def _gates(interiors: Sequence[Interior]) -> Iterator[tuple[str, str, Matrix]]:
    """Yield file name, title and the table of gates x expert groups, one a run and layer."""
    for number, one in enumerate(interiors, start=1):
        for depth, layer in enumerate(one.inside.gates, start=1):
            groups = list(dict.fromkeys(group for shares in layer.values() for group in shares))
            values = np.array([[shares.get(group, np.nan) for group in groups] for shares in layer.values()])
            several = len(one.inside.gates) > 1
            title = f"{one.label}, layer {depth}" if several else one.label
            name = f"gates_{number}_layer{depth}" if several else f"gates_{number}"
            yield name, title, Matrix(list(layer), groups, values, "gate")


def _drawings(
    gains: Sequence[Gains],
    interiors: Sequence[Interior],
    curves: Sequence[Curve],
    columns: Sequence[str],
    matrix: Matrix,
) -> dict[str, Drawing]:
    limit = float(np.nanmax(np.abs(matrix.values)))
    found = {
        "gain": Drawing(
            plots.heat_map(
                matrix.values,
                matrix.rows,
                columns,
                labels=("test rows, by training rows of their user", ""),
                title="AUC minus single-task, ‰",
                limits=(-limit or -1.0, limit or 1.0),
                colours="RdBu",
                annotated=True,
            ),
            "Transfer matrix: gain of every model over single-task, by task and by how often the user was seen.",
        ),
        "gain_intervals": _bars(gains, columns),
    }
    told = {f"{curve.label} {curve.name}": (curve.epochs, curve.values) for curve in curves}
    if told:
        figure = plots.curves(told, labels=("epoch", "gradient cosine"), title="Conflict in training", marker="o")
        found["conflict"] = Drawing(figure, "Gradient cosine of the tasks on shared weights over the training.")
    for name, title, gates in _gates(interiors):
        figure = plots.heat_map(
            gates.values,
            gates.rows,
            gates.columns,
            labels=("experts", "gate"),
            title=title,
            limits=(0, 1),
            annotated=True,
        )
        found[name] = Drawing(figure, f"What each gate of {title} reads; a row adds up to one.")
    return found


def _bars(gains: Sequence[Gains], columns: Sequence[str]) -> Drawing:
    """One panel a task, a group of bars a bucket, a bar a model, with intervals and a zero line."""
    models = list(dict.fromkeys(label for one in gains for label in one.compared))
    with matplotlib.rc_context(plots.STYLE):
        figure = plots.blank(4.2 * len(gains) + 1.4, 3.6)
        for place, one in enumerate(gains):
            axes = figure.add_subplot(1, len(gains), place + 1)
            _panel(axes, one, models, columns)
        handles = [Patch(color=plots.colour(n), label=name) for n, name in enumerate(models)]
        figure.legend(handles=handles, frameon=False, fontsize=8, loc="outside right upper")
    return Drawing(figure, "AUC minus single-task with bootstrap intervals over groups.")


def _panel(axes: Any, one: Gains, models: Sequence[str], columns: Sequence[str]) -> None:
    width = 0.8 / len(models)
    for place, label in enumerate(models):
        for at, name in enumerate(columns):
            cell = one.cells.get(label, {}).get(name, {})
            if "gain" in cell:
                x = at - 0.4 + (place + 0.5) * width
                axes.bar(x, 1000 * cell["gain"], width, color=plots.colour(place))
                axes.plot([x, x], [1000 * cell["low"], 1000 * cell["high"]], color="0.2", linewidth=0.8)
    axes.axhline(0.0, color="0.5", linewidth=1)
    axes.set_xticks(range(len(columns)), columns, rotation=45, ha="right")
    axes.set(ylabel="difference of AUC, ‰")
    axes.set_title(one.task, fontsize=9)


def _left_out(gains: Sequence[Gains]) -> list[str]:
    told = "the cold bucket (users without training rows) has one class only and is left out."
    return [f"{one.task}: {told}" for one in gains if one.cold_left_out]


def _without(interiors: Sequence[Interior]) -> list[str]:
    """What a network does not have."""
    told = [f"{one.label}: no gates." for one in interiors if not one.inside.gates]
    for one in interiors:
        for (a, b), parts in one.inside.cosines.items():
            missing = [part for part, value in parts.items() if value != value]
            if missing:
                told.append(f"{one.label}: {a} and {b} train no {' and no '.join(missing)} together.")
    return told

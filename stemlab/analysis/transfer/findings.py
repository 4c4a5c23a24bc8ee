"""Findings of the transfer analysis: gains, gradient conflicts and gates as numbers, matrices and figures."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from stemlab.analysis import plots
from stemlab.analysis.base import CaptionedFigure, Findings, Matrix
from stemlab.analysis.transfer.bars import BarPanel, difference_bars
from stemlab.analysis.transfer.logged_curves import LoggedCurve
from stemlab.models.multitask.diagnostics import GateGradientDiagnostics

ALL = -2
"""Key of all test samples, among the bucket numbers."""
_COLUMNS = ("rows", "positives", "auc", "gain", "low", "high")
_READING = (
    "A cell of the transfer matrix is the AUC of a model on a task minus the AUC of the single-task model, in "
    "thousandths, for all test samples and by the number of training samples of their user (F1: fewest; cold: none). "
    "Blue is a gain from joint training; red is a loss (negative transfer). The bar chart shows the same values with "
    "bootstrap intervals over groups.",
    "The gradient cosine of two tasks is computed on the weights that both tasks train: 1 means equal direction, 0 "
    "independent directions, -1 opposite directions. 'tables' are embedding rows, 'experts' all other shared weights. "
    "A model with task-specific parts has fewer shared weights; the cosine covers only the shared ones.",
    "Gate shares are the mean weights that a gate gives to each group of experts. A share close to zero means that the "
    "task does not use the group. The number of experts in use is exp(entropy) of the mean share of all gates. MMFI "
    "has one gate per pair of fields (layer 1) and per field (layer 2); its shares are means over these gates, each "
    "sample with the gates of its own scenario.",
)


@dataclass(frozen=True)
class TaskGains:
    """Gains of one task.

    Attributes:
        task: the task.
        baseline: label of its single-task run.
        joint: labels of the joint runs.
        cells: label -> name of a bucket -> numbers; the baseline has no gain. Other single-task runs of the task
            (seeds) are included as a control.
        cold_left_out: whether the cold bucket was left out because its labels have one class.
    """

    task: str
    baseline: str
    joint: tuple[str, ...]
    cells: Mapping[str, Mapping[str, Mapping[str, float]]]
    cold_left_out: bool

    @property
    def compared(self) -> list[str]:
        """Labels of all runs except the baseline."""
        return [label for label in self.cells if label != self.baseline]


@dataclass(frozen=True)
class RunDiagnostics:
    """Gates and gradients of a run.

    Attributes:
        label: label of the run.
        result: gate shares and gradient cosines of one batch.
    """

    label: str
    result: GateGradientDiagnostics

    def experts_in_use(self) -> list[float]:
        """Return exp(entropy) of the mean gate share, one value per layer."""
        return [_in_use(layer) for layer in self.result.gates]


def _in_use(layer: Mapping[str, Mapping[str, float]]) -> float:
    total: dict[str, float] = {}
    for shares in layer.values():
        for group, share in shares.items():
            total[group] = total.get(group, 0.0) + share / len(layer)
    share_E = np.array([share for share in total.values() if share > 0])
    return float(np.exp(-(share_E * np.log(share_E)).sum()))


def findings(
    gains: Sequence[TaskGains],
    diagnostics: Sequence[RunDiagnostics],
    curves: Sequence[LoggedCurve],
    buckets: Mapping[int, str],
    confidence: float,
) -> Findings:
    """Return the findings.

    Args:
        gains: gains of each task.
        diagnostics: gates and gradients of the joint runs.
        curves: gradient cosines over the epochs, of the runs that logged them.
        buckets: number of a bucket -> name.
        confidence: confidence level of the intervals.
    """
    columns = ["all", *(name for _, name in sorted(buckets.items(), key=lambda pair: (pair[0] < 0, pair[0])))]
    matrix = _gain_matrix(gains, columns)
    return Findings(
        title="Transfer",
        verdict=" ".join([*map(_verdict, gains), _conflict_verdict(diagnostics)]).strip(),
        reading=_READING,
        numbers={
            "confidence": confidence,
            "tasks": {one.task: {"baseline": one.baseline, "models": _plain(one.cells)} for one in gains},
            "interiors": {one.label: _diagnostics_numbers(one) for one in diagnostics},
            "conflicts_by_epoch": [
                {"run": c.label, "name": c.name, "epochs": list(c.epochs), "values": list(c.values)} for c in curves
            ],
        },
        matrices={"gain": matrix, **{f"gain_{one.task}": _long(one) for one in gains}, **_tables(diagnostics)},
        figures=_figures(gains, diagnostics, curves, columns, matrix),
        notes=[*_left_out(gains), *_without(diagnostics)],
    )


def _verdict(gains: TaskGains) -> str:
    models = [
        f"{label} {1000 * cell['gain']:+.1f} [{1000 * cell['low']:+.1f}, {1000 * cell['high']:+.1f}]"
        for label in gains.joint
        for cell in [gains.cells[label]["all"]]
    ]
    return f"{gains.task}, AUC minus single-task AUC, ‰: {'; '.join(models)}."


def _conflict_verdict(diagnostics: Sequence[RunDiagnostics]) -> str:
    cosines = [
        f"{one.label} {a}-{b} {parts['tables']:+.2f}"
        for one in diagnostics
        for (a, b), parts in one.result.cosines.items()
        if parts["tables"] == parts["tables"]
    ]
    return f"Gradient cosine on shared tables: {'; '.join(cosines)}." if cosines else ""


def _plain(cells: Mapping[str, Mapping[str, Mapping[str, float]]]) -> dict[str, Any]:
    return {label: {name: dict(cell) for name, cell in inner.items()} for label, inner in cells.items()}


def _diagnostics_numbers(one: RunDiagnostics) -> dict[str, Any]:
    return {
        "gradient_cosine": {f"{a}-{b}": dict(parts) for (a, b), parts in one.result.cosines.items()},
        "gates": [{gate: dict(shares) for gate, shares in layer.items()} for layer in one.result.gates],
        "experts_in_use": one.experts_in_use(),
    }


def _gain_matrix(gains: Sequence[TaskGains], columns: Sequence[str]) -> Matrix:
    """Return gains in thousandths: one row per model and task, one column per bucket."""
    rows, values = [], []
    for one in gains:
        for label in one.compared:
            rows.append(f"{label}: {one.task}")
            cells = one.cells[label]
            values.append([1000 * cells.get(name, {}).get("gain", np.nan) for name in columns])
    return Matrix(rows, columns, np.array(values), "model: task")


def _long(one: TaskGains) -> Matrix:
    rows = [f"{label}/{name}" for label, cells in one.cells.items() for name in cells]
    values = [[cell.get(key, np.nan) for key in _COLUMNS] for cells in one.cells.values() for cell in cells.values()]
    return Matrix(rows, _COLUMNS, np.array(values), "model/bucket")


def _tables(diagnostics: Sequence[RunDiagnostics]) -> dict[str, Matrix]:
    """Return one matrix of the gradient cosines of all runs, and one matrix of gate shares per run and layer."""
    found = {}
    rows = [f"{one.label}: {a}-{b}" for one in diagnostics for a, b in one.result.cosines]
    values = [list(parts.values()) for one in diagnostics for parts in one.result.cosines.values()]
    if rows:
        found["gradient_cosine"] = Matrix(rows, ("tables", "experts"), np.array(values), "model: tasks")
    return found | {name: matrix for name, _, matrix in _gates(diagnostics)}


def _gates(diagnostics: Sequence[RunDiagnostics]) -> Iterator[tuple[str, str, Matrix]]:
    """Yield file name, title and the matrix gates x expert groups for each run and layer."""
    for number, one in enumerate(diagnostics, start=1):
        for depth, layer in enumerate(one.result.gates, start=1):
            groups = list(dict.fromkeys(group for shares in layer.values() for group in shares))
            values = np.array([[shares.get(group, np.nan) for group in groups] for shares in layer.values()])
            several = len(one.result.gates) > 1
            title = f"{one.label}, layer {depth}" if several else one.label
            name = f"gates_{number}_layer{depth}" if several else f"gates_{number}"
            yield name, title, Matrix(list(layer), groups, values, "gate")


def _figures(
    gains: Sequence[TaskGains],
    diagnostics: Sequence[RunDiagnostics],
    curves: Sequence[LoggedCurve],
    columns: Sequence[str],
    matrix: Matrix,
) -> dict[str, CaptionedFigure]:
    limit = float(np.nanmax(np.abs(matrix.values)))
    found = {
        "gain": CaptionedFigure(
            plots.heat_map(
                matrix.values,
                matrix.rows,
                columns,
                labels=("test samples, by training samples of their user", ""),
                title="AUC minus single-task AUC, ‰",
                limits=(-limit or -1.0, limit or 1.0),
                colours="RdBu",
                annotated=True,
            ),
            "Transfer matrix: AUC gain of every model over the single-task model, by task and by training samples of "
            "the user.",
        ),
        "gain_intervals": _bars(gains, columns),
    }
    lines = {f"{curve.label} {curve.name}": (curve.epochs, curve.values) for curve in curves}
    if lines:
        figure = plots.curves(lines, labels=("epoch", "gradient cosine"), title="Conflict in training", marker="o")
        found["conflict"] = CaptionedFigure(figure, "Gradient cosine of the tasks on shared weights over the training.")
    for name, title, gates in _gates(diagnostics):
        figure = plots.heat_map(
            gates.values,
            gates.rows,
            gates.columns,
            labels=("experts", "gate"),
            title=title,
            limits=(0, 1),
            annotated=True,
        )
        found[name] = CaptionedFigure(figure, f"Shares of each gate of {title}; a row sums to 1.")
    return found


def _bars(gains: Sequence[TaskGains], columns: Sequence[str]) -> CaptionedFigure:
    models = list(dict.fromkeys(label for one in gains for label in one.compared))
    panels = [
        BarPanel(one.task, columns, {label: _bars_of(one.cells[label], columns) for label in one.compared})
        for one in gains
    ]
    figure = difference_bars(panels, models, height=3.6, margin=1.4, rotation=45, ha="right")
    return CaptionedFigure(figure, "AUC minus single-task AUC, with bootstrap intervals over groups.")


def _bars_of(cells: Mapping[str, Mapping[str, float]], columns: Sequence[str]) -> dict[int, tuple[float, float, float]]:
    found = {tick: cells.get(name, {}) for tick, name in enumerate(columns)}
    return {tick: (cell["gain"], cell["low"], cell["high"]) for tick, cell in found.items() if "gain" in cell}


def _left_out(gains: Sequence[TaskGains]) -> list[str]:
    reason = "the cold bucket (users without training samples) is left out; its labels have one class."
    return [f"{one.task}: {reason}" for one in gains if one.cold_left_out]


def _without(diagnostics: Sequence[RunDiagnostics]) -> list[str]:
    """Return notes on gates and shared weights that a network does not have."""
    notes = [f"{one.label}: no gates." for one in diagnostics if not one.result.gates]
    for one in diagnostics:
        for (a, b), parts in one.result.cosines.items():
            missing = [part for part, value in parts.items() if value != value]
            if missing:
                notes.append(f"{one.label}: {a} and {b} share no trained {' and no trained '.join(missing)}.")
    return notes

"""Differences by bucket as numbers, tables and bars."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import matplotlib
import numpy as np
from matplotlib.patches import Patch

from stemlab.analysis import plots
from stemlab.analysis.base import Drawing, Findings, Matrix
from stemlab.analysis.transfer.buckets import COLD, Buckets

COLUMNS = ("rows", "positives", "auc", "gauc", "delta_auc", "low", "high", "delta_gauc")
READING = (
    "Buckets go by the relative amount of positive feedback of two tasks from a sample's user in training: in the "
    "first one the second task dominates, in the last one the first task. Comparable samples (marked *) have the most "
    "similar amounts.",
    "A bar is a model's AUC minus that of the single-task model of that task, in thousandths; its line is the "
    "bootstrap interval over users. Below zero the task was better off alone: negative transfer. STEM's paper says "
    "that joint models lose on comparable samples what they win where the other task dominates, and STEM does not.",
    "A second seed of the single-task model, where there is one, shows how large a difference can be without any "
    "cause.",
)


@dataclass(frozen=True)
class Panel:
    """One task's part of a comparison.

    Attributes:
        task: the task.
        baseline: label of its single-task run.
        cells: label of a run -> bucket -> numbers; the baseline has no differences.
        cold_left_out: whether the cold bucket has one class only.
    """

    task: str
    baseline: str
    cells: Mapping[str, Mapping[int, Mapping[str, float]]]
    cold_left_out: bool


@dataclass(frozen=True)
class Comparison:
    """Two tasks."""

    pair: tuple[str, str]
    buckets: Buckets
    panels: tuple[Panel, ...]

    @property
    def name(self) -> str:
        """For files and headings."""
        return "_".join(self.pair)

    def bucket_name(self, number: int) -> str:
        """``B1``, the comparable one with a star, or ``cold``."""
        return "cold" if number == COLD else f"B{number + 1}{'*' if number == self.buckets.comparable else ''}"


def findings(comparisons: Sequence[Comparison], confidence: float, models: int) -> Findings:
    """Return what the differences say.

    Args:
        comparisons: every two tasks.
        confidence: of the intervals.
        models: number of models compared.
    """
    return Findings(
        title="Comparable samples",
        verdict=" ".join(_verdict(one, panel) for one in comparisons for panel in one.panels),
        reading=READING,
        numbers={"confidence": confidence, "models": models, "comparisons": [_numbers(one) for one in comparisons]},
        matrices={f"{one.name}_{panel.task}": _matrix(one, panel) for one in comparisons for panel in one.panels},
        drawings={f"difference_{one.name}": _bars(one) for one in comparisons},
        notes=[
            f"{panel.task}: the cold bucket (users without training rows) has one class only and is left out."
            for one in comparisons
            for panel in one.panels
            if panel.cold_left_out
        ],
    )


def _verdict(comparison: Comparison, panel: Panel) -> str:
    """Every model's difference on the comparable samples, and whether its interval excludes zero."""
    told = []
    for label, cells in panel.cells.items():
        cell = cells.get(comparison.buckets.comparable, {})
        if label != panel.baseline and "delta_auc" in cell:
            told.append(
                f"{label} {1000 * cell['delta_auc']:+.1f} [{1000 * cell['low']:+.1f}, {1000 * cell['high']:+.1f}]"
            )
    first, second = comparison.pair
    return f"{panel.task}, AUC against single-task on samples comparable in {first} and {second}, ‰: {'; '.join(told)}."


def _numbers(comparison: Comparison) -> dict[str, Any]:
    return {
        "tasks": list(comparison.pair),
        "bounds": comparison.buckets.bounds.tolist(),
        "comparable": comparison.bucket_name(comparison.buckets.comparable),
        "panels": {
            panel.task: {
                "baseline": panel.baseline,
                "models": {
                    label: {comparison.bucket_name(number): dict(cell) for number, cell in cells.items()}
                    for label, cells in panel.cells.items()
                },
            }
            for panel in comparison.panels
        },
    }


def _matrix(comparison: Comparison, panel: Panel) -> Matrix:
    rows, values = [], []
    for label, cells in panel.cells.items():
        for number, cell in cells.items():
            rows.append(f"{label}/{comparison.bucket_name(number)}")
            values.append([cell.get(name, float("nan")) for name in COLUMNS])
    return Matrix(rows, COLUMNS, np.array(values), "model/bucket")


def _bars(comparison: Comparison) -> Drawing:
    """One panel a task, a group of bars a bucket, a bar a model, with intervals and a zero line."""
    models = list(dict.fromkeys(label for panel in comparison.panels for label in panel.cells))
    models = [label for label in models if all(label != panel.baseline for panel in comparison.panels)]
    with matplotlib.rc_context(plots.STYLE):
        figure = plots.blank(4.2 * len(comparison.panels) + 1.2, 3.4)
        for place, panel in enumerate(comparison.panels):
            axes = figure.add_subplot(1, len(comparison.panels), place + 1)
            _panel_bars(axes, comparison, panel, models)
        handles = [Patch(color=plots.colour(n), label=name) for n, name in enumerate(models)]
        figure.legend(handles=handles, frameon=False, fontsize=8, loc="outside right upper")
    told = f"AUC minus single-task by bucket of relative feedback of {' and '.join(comparison.pair)}."
    return Drawing(figure, told)


def _panel_bars(axes: Any, comparison: Comparison, panel: Panel, models: Sequence[str]) -> None:
    numbers = sorted(
        {number for cells in panel.cells.values() for number in cells}, key=lambda number: (number == COLD, number)
    )
    width = 0.8 / max(len(models), 1)
    for place, label in enumerate(models):
        cells = panel.cells.get(label, {})
        for at, number in enumerate(numbers):
            if "delta_auc" in cells.get(number, {}):
                cell = cells[number]
                x, height = at - 0.4 + (place + 0.5) * width, 1000 * cell["delta_auc"]
                axes.bar(x, height, width, color=plots.colour(place))
                axes.plot([x, x], [1000 * cell["low"], 1000 * cell["high"]], color="0.2", linewidth=0.8)
    axes.axhline(0.0, color="0.5", linewidth=1)
    axes.set_xticks(range(len(numbers)), [comparison.bucket_name(number) for number in numbers])
    axes.set(xlabel="bucket", ylabel="difference of AUC, ‰")
    axes.set_title(panel.task, fontsize=9)

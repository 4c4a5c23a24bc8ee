"""Findings of the comparable-samples analysis: differences by bucket as numbers, matrices and bar charts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from stemlab.analysis.base import CaptionedFigure, Findings, Matrix
from stemlab.analysis.transfer.bars import BarPanel, difference_bars
from stemlab.analysis.transfer.buckets import COLD, Buckets

_COLUMNS = ("rows", "positives", "auc", "gauc", "delta_auc", "low", "high", "delta_gauc")
_READING = (
    "Test samples are divided into buckets by the relative positive feedback of their user for two tasks in training. "
    "In the first bucket the second task dominates, in the last bucket the first task. Comparable samples (marked *) "
    "have the most similar feedback for both tasks.",
    "A bar is the AUC of a model minus the AUC of the single-task model, in thousandths; the line is the bootstrap "
    "interval over users. A value below zero is negative transfer. According to the STEM paper, other joint models "
    "lose on comparable samples and gain where the other task dominates, while STEM does not lose.",
    "A second seed of the single-task model, if present, shows the size of random differences.",
)


@dataclass(frozen=True)
class TaskPanel:
    """Results of one task in a comparison.

    Attributes:
        task: the task.
        baseline: label of its single-task run.
        cells: label of a run -> bucket -> numbers; the baseline has no differences.
        cold_left_out: whether the cold bucket was left out because its labels have one class.
    """

    task: str
    baseline: str
    cells: Mapping[str, Mapping[int, Mapping[str, float]]]
    cold_left_out: bool


@dataclass(frozen=True)
class TaskPairComparison:
    """Results of a pair of tasks.

    Attributes:
        pair: the two tasks.
        buckets: buckets of the test samples.
        panels: results of each task.
    """

    pair: tuple[str, str]
    buckets: Buckets
    panels: tuple[TaskPanel, ...]

    @property
    def name(self) -> str:
        """Name in files and headings."""
        return "_".join(self.pair)

    def bucket_name(self, number: int) -> str:
        """Return ``B1``, ``B2``, ... (``*`` marks the comparable bucket), or ``cold``."""
        return "cold" if number == COLD else f"B{number + 1}{'*' if number == self.buckets.comparable else ''}"


def findings(comparisons: Sequence[TaskPairComparison], confidence: float, models: int) -> Findings:
    """Return the findings.

    Args:
        comparisons: results of every pair of tasks.
        confidence: confidence level of the intervals.
        models: number of models compared with single-task models.
    """
    return Findings(
        title="Comparable samples",
        verdict=" ".join(_verdict(one, panel) for one in comparisons for panel in one.panels),
        reading=_READING,
        numbers={"confidence": confidence, "models": models, "comparisons": [_numbers(one) for one in comparisons]},
        matrices={f"{one.name}_{panel.task}": _matrix(one, panel) for one in comparisons for panel in one.panels},
        figures={f"difference_{one.name}": _bars(one) for one in comparisons},
        notes=[
            f"{panel.task}: the cold bucket (users without training samples) is left out; its labels have one class."
            for one in comparisons
            for panel in one.panels
            if panel.cold_left_out
        ],
    )


def _verdict(comparison: TaskPairComparison, panel: TaskPanel) -> str:
    """Return the difference of every model on the comparable samples, with its interval."""
    models = []
    for label, cells in panel.cells.items():
        cell = cells.get(comparison.buckets.comparable, {})
        if label != panel.baseline and "delta_auc" in cell:
            models.append(
                f"{label} {1000 * cell['delta_auc']:+.1f} [{1000 * cell['low']:+.1f}, {1000 * cell['high']:+.1f}]"
            )
    first, second = comparison.pair
    samples = f"samples comparable in {first} and {second}"
    return f"{panel.task}, AUC minus single-task AUC on {samples}, ‰: {'; '.join(models)}."


def _numbers(comparison: TaskPairComparison) -> dict[str, Any]:
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


def _matrix(comparison: TaskPairComparison, panel: TaskPanel) -> Matrix:
    rows, values = [], []
    for label, cells in panel.cells.items():
        for number, cell in cells.items():
            rows.append(f"{label}/{comparison.bucket_name(number)}")
            values.append([cell.get(name, float("nan")) for name in _COLUMNS])
    return Matrix(rows, _COLUMNS, np.array(values), "model/bucket")


def _bars(comparison: TaskPairComparison) -> CaptionedFigure:
    models = list(dict.fromkeys(label for panel in comparison.panels for label in panel.cells))
    models = [label for label in models if all(label != panel.baseline for panel in comparison.panels)]
    panels = [_bar_panel(comparison, panel) for panel in comparison.panels]
    figure = difference_bars(panels, models, height=3.4, margin=1.2, xlabel="bucket")
    caption = f"AUC minus single-task AUC, by bucket of relative feedback for {' and '.join(comparison.pair)}."
    return CaptionedFigure(figure, caption)


def _bar_panel(comparison: TaskPairComparison, panel: TaskPanel) -> BarPanel:
    numbers = sorted(
        {number for cells in panel.cells.values() for number in cells}, key=lambda number: (number == COLD, number)
    )
    bars = {
        label: {
            tick: (cells[number]["delta_auc"], cells[number]["low"], cells[number]["high"])
            for tick, number in enumerate(numbers)
            if "delta_auc" in cells.get(number, {})
        }
        for label, cells in panel.cells.items()
    }
    return BarPanel(panel.task, [comparison.bucket_name(number) for number in numbers], bars)

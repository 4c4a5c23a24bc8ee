"""Bar charts of AUC differences to the single-task model, in thousandths, with bootstrap intervals."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import matplotlib
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from stemlab.analysis import plots


@dataclass(frozen=True)
class BarPanel:
    """Bars of one task.

    Attributes:
        task: task, the title of the panel.
        ticks: bucket names.
        bars: model -> index of a tick -> difference, lower and upper end of its interval.
    """

    task: str
    ticks: Sequence[str]
    bars: Mapping[str, Mapping[int, tuple[float, float, float]]]


def difference_bars(
    panels: Sequence[BarPanel], models: Sequence[str], *, height: float, margin: float, xlabel: str = "", **style: Any
) -> Figure:
    """Return a figure with one panel per task, one group of bars per bucket, one bar per model, and a zero line.

    Args:
        panels: bars of each task.
        models: models of the legend, in the order of the bars.
        height: height in inches.
        margin: width of the legend in inches.
        xlabel: label of the horizontal axis.
        style: matplotlib style of the tick labels.
    """
    with matplotlib.rc_context(plots.FIGURE_STYLE):
        figure = plots.blank(4.2 * len(panels) + margin, height)
        for number, panel in enumerate(panels):
            axes = figure.add_subplot(1, len(panels), number + 1)
            _draw(axes, panel, models)
            axes.set_xticks(range(len(panel.ticks)), panel.ticks, **style)
            axes.set(xlabel=xlabel, ylabel="difference of AUC, ‰")
            axes.set_title(panel.task, fontsize=9)
        handles = [Patch(color=plots.colour(n), label=name) for n, name in enumerate(models)]
        figure.legend(handles=handles, frameon=False, fontsize=8, loc="outside right upper")
    return figure


def _draw(axes: Any, panel: BarPanel, models: Sequence[str]) -> None:
    width = 0.8 / max(len(models), 1)
    for series, model in enumerate(models):
        for tick, (difference, low, high) in panel.bars.get(model, {}).items():
            x = tick - 0.4 + (series + 0.5) * width
            axes.bar(x, 1000 * difference, width, color=plots.colour(series))
            axes.plot([x, x], [1000 * low, 1000 * high], color="0.2", linewidth=0.8)
    axes.axhline(0.0, color="0.5", linewidth=1)

"""Critical-difference diagram and Pareto figure of a report."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from stemlab.errors import StemlabError
from stemlab.metric_directions import metric_direction
from stemlab.reporting.costs import COST_HEADS
from stemlab.reporting.critical import RankedModels, model_name
from stemlab.reporting.figure_file import FIRST_COLOURS, figure_marks, write_figure
from stemlab.reporting.render import column_heading
from stemlab.reporting.table import ReportTable

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.text import Annotation
    from matplotlib.transforms import Bbox

_CORNERS = ((1, 1), (1, -1), (-1, 1), (-1, -1))  # right or left of a point, above or below


def draw_critical(ranked: RankedModels, path: Path, sample: bool, limited: bool) -> list[Path]:
    """Write the critical-difference diagram as PNG and SVG; return both paths.

    Average ranks are on a line, the best on the left; bars join models without a significant difference.
    """
    left = (len(ranked.names) + 1) // 2  # names on the left side
    right_names = len(ranked.names) - left
    rows, bars = max(left, right_names), len(ranked.cliques)

    def draw(figure: Figure) -> None:
        axes = figure.add_subplot()
        axes.set_axis_off()
        low, high = 1.0, float(len(ranked.names))
        axes.set_xlim(low - 0.45 * (high - low), high + 0.45 * (high - low))
        axes.set_ylim(-1.0 - 0.35 * bars - rows, 2.0)
        axes.plot([low, high], [0, 0], color="black", linewidth=1)
        for tick in range(1, len(ranked.names) + 1):
            axes.plot([tick, tick], [0, 0.2], color="black", linewidth=1)
            axes.text(tick, 0.3, str(tick), ha="center", va="bottom")
        for index, (name, rank) in enumerate(zip(ranked.names, ranked.ranks, strict=True)):
            first_side = index < left
            depth = index if first_side else len(ranked.names) - 1 - index
            y, end = -1.0 - 0.35 * bars - depth, (low if first_side else high)
            end += (-0.05 if first_side else 0.05) * (high - low)
            axes.plot([rank, rank, end], [0, y, y], color="0.4", linewidth=0.8)
            text = f"{name}  {rank:.2f}" if first_side else f"{rank:.2f}  {name}"
            axes.text(
                end, y, text + " " if first_side else " " + text, ha="right" if first_side else "left", va="center"
            )
        for index, (start, stop) in enumerate(ranked.cliques):
            y = -0.45 - 0.35 * index
            axes.plot([ranked.ranks[start] - 0.03, ranked.ranks[stop] + 0.03], [y, y], color="black", linewidth=3)
        if ranked.difference is not None:
            _critical_bar(axes, low, min(ranked.difference, high - low))
        axes.set_title(figure_marks(sample, limited) + critical_note(ranked), fontsize=8)

    return write_figure(path, (6.0, 1.6 + 0.24 * (rows + bars)), draw)


def _critical_bar(axes: Axes, low: float, length: float) -> None:
    axes.plot([low, low + length], [1.3, 1.3], color="black", linewidth=1)
    for end in (low, low + length):
        axes.plot([end, end], [1.15, 1.45], color="black", linewidth=1)
    axes.text(low + length / 2, 1.45, "CD", ha="center", va="bottom")


def critical_note(ranked: RankedModels) -> str:
    """Return one line: test, level, critical difference, p-value of Friedman's test."""
    test = (
        f"Nemenyi, CD = {ranked.difference:.2f}" if ranked.difference is not None else "Wilcoxon with Holm's correction"
    )
    without = f"; without {', '.join(ranked.left_out)}" if ranked.left_out else ""
    first = f"average ranks over {ranked.blocks} columns{without}"
    return f"{first}\n{test}, level {ranked.level:g}; Friedman p = {ranked.p:.2g}"


def pareto_front(costs: Sequence[float], qualities: Sequence[float]) -> list[int]:
    """Return the positions of the points that no other point beats in both cost (small) and quality (large).

    Of equal points all are returned. In ascending order of cost.
    """
    points = list(zip(costs, qualities, strict=True))
    front = [
        index
        for index, (cost, quality) in enumerate(points)
        if not any(c <= cost and q >= quality and (c, q) != (cost, quality) for c, q in points)
    ]
    return sorted(front, key=lambda index: points[index])


def draw_pareto(table: ReportTable, metric: str, costs: Sequence[str], path: Path) -> list[Path]:
    """Write quality against each cost as PNG and SVG; return both paths.

    Points on the front are joined: no other model is better and as cheap, or cheaper and as good.

    Args:
        table: table of a report.
        metric: column of the table (``auc/like``).
        costs: names of costs (``stemlab.reporting.costs``).
        path: path without suffix.

    Raises:
        StemlabError: the table has no such column, or no row has both values.
    """
    direction = metric_direction(f"test/{metric}", table.own)
    if metric not in table.columns or direction is None:
        raise StemlabError(f"pareto.metric: {metric} is not one of the columns with a direction: {_listed(table)}.")
    sign = 1.0 if direction == "max" else -1.0
    panels = []
    for cost in costs:
        found = [(model_name(row), row.costs[cost].mean, row.stats[metric].mean) for row in table.rows]
        points = [(name, x, y) for name, x, y in found if x is not None and y is not None]
        if not points:
            raise StemlabError(f"pareto: no run has both {metric} and {cost}; leave {cost} out of pareto.costs.")
        panels.append((cost, points))

    def draw(figure: Figure) -> None:
        every = figure.subplots(1, len(panels), sharey=True, squeeze=False)[0]
        for axes, (cost, points) in zip(every, panels, strict=True):
            xs, ys = [x for _, x, _ in points], [y for _, _, y in points]
            front = pareto_front(xs, [sign * y for y in ys])
            axes.plot([xs[i] for i in front], [ys[i] for i in front], color=FIRST_COLOURS[1], linewidth=1, zorder=1)
            axes.scatter(xs, ys, color=FIRST_COLOURS[0], s=18, zorder=2)
            axes.set_xlabel(COST_HEADS[cost])
            axes.margins(x=0.25, y=0.1)
        every[0].set_ylabel(column_heading(metric))
        figure.suptitle(f"{figure_marks(table.sample, table.limited)}means over seeds; line: Pareto front", fontsize=8)
        figure.draw_without_rendering()  # lays out the axes
        for axes, (_, points) in zip(every, panels, strict=True):
            _label(axes, points)

    return write_figure(path, (3.2 * len(panels) + 0.6, 3.2), draw)


def _label(axes: Axes, points: Sequence[tuple[str, float, float]]) -> None:
    """Write the name beside each point, at the first corner where it covers no other name or point."""
    spots = axes.transData.transform([(x, y) for _, x, y in points])
    used: list[Bbox] = []
    for name, x, y in points:
        labels: list[tuple[int, int, Annotation, Bbox]] = []
        for right, up in _CORNERS:
            ha, va = "left" if right > 0 else "right", "bottom" if up > 0 else "top"
            away = (3.0 * right, 2.0 * up)
            label = axes.annotate(name, (x, y), away, textcoords="offset points", fontsize=7, ha=ha, va=va)
            label.set_in_layout(False)
            box = label.get_window_extent()
            hidden = sum(box.overlaps(other) for other in used) + sum(box.contains(*spot) for spot in spots)
            outside = not axes.bbox.x0 <= box.x0 <= box.x1 <= axes.bbox.x1
            labels.append((hidden + outside, len(labels), label, box))
        best, *others = sorted(labels, key=lambda one: one[:2])
        used.append(best[3])
        for _, _, label, _ in others:
            label.remove()


def _listed(table: ReportTable) -> str:
    return ", ".join(column for column in table.columns if metric_direction(f"test/{column}", table.own) is not None)

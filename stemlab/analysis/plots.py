"""Figures shared by the analyses: heat maps and line plots; deterministic files, no display needed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from stemlab.array_types import AnyArray
from stemlab.reporting.figure_file import FIRST_COLOURS

FIGURE_STYLE: Any = {"svg.hashsalt": "stemlab", "figure.dpi": 150, "font.size": 9, "text.parse_math": False}
_NO_LAYOUT: Any = {"figure.autolayout": False, "figure.constrained_layout.use": False}
_MOST_NAMES = 60
"""Above this number of ticks, tick labels are left out."""
_MARK_INCHES = 0.14


def save(figure: Figure, path: Path, sample: bool = False) -> tuple[Path, Path]:
    """Write ``path`` with the suffixes .png and .svg and return both; ``sample`` adds the mark SAMPLE."""
    if sample:
        _mark(figure)
    png, svg = (path.with_name(f"{path.name}{ending}") for ending in (".png", ".svg"))
    with matplotlib.rc_context(FIGURE_STYLE | _NO_LAYOUT):
        layout = figure.get_layout_engine()
        if layout is not None:
            layout.execute(figure)
            figure.set_layout_engine(None)  # keeps the positions: savefig would compute them with a drawing of its own
        figure.savefig(png)
        figure.savefig(svg, metadata={"Date": None})
    return png, svg


def _mark(figure: Figure) -> None:
    """Write the mark SAMPLE into a strip below the axes."""
    strip = _MARK_INCHES / figure.get_figheight()
    if figure.get_layout_engine() is None:  # a figure of an analysis of the user
        figure.set_layout_engine("constrained")
    layout: Any = figure.get_layout_engine()
    layout.set(rect=(0, strip, 1, 1 - strip))
    figure.text(0.995, 0.005, "SAMPLE: synthetic data", ha="right", va="bottom", fontsize=7, color="#d55e00")


def blank(width: float, height: float) -> Figure:
    """Return an empty figure in the common style; width and height in inches."""
    with matplotlib.rc_context(FIGURE_STYLE):
        return Figure(figsize=(width, height), layout="constrained")


def colour(number: int) -> str:
    """Return the colour of curve ``number`` (from 0); six colours that are safe for colour-blind readers."""
    return FIRST_COLOURS[number % len(FIRST_COLOURS)]


def heat_map(
    values: AnyArray,
    rows: Sequence[str],
    columns: Sequence[str],
    *,
    labels: tuple[str, str],
    title: str,
    limits: tuple[float, float] | None = None,
    colours: str = "Reds",
    annotated: bool = False,
) -> Figure:
    """Return a heat map.

    Args:
        values: (R, C); NaN cells stay white.
        rows: R row names.
        columns: C column names.
        labels: labels of the horizontal and the vertical axis.
        title: title of the figure.
        limits: values at the ends of the colour map; ``None``: minimum and maximum of ``values``.
        colours: name of a matplotlib colour map.
        annotated: whether each cell shows its value.
    """
    turned = max(map(len, columns), default=0) > 3
    height = min(max(0.18 * len(rows), 1.2), 11.0) + 0.9 + (0.07 * max(map(len, columns)) if turned else 0)
    width = min(max(0.18 * len(columns) * (2.2 if annotated else 1), 2.5), 10.0) + 1.4 + 0.06 * max(map(len, rows))
    with matplotlib.rc_context(FIGURE_STYLE):
        figure = blank(width, height)
        axes = figure.add_subplot()
        low, high = limits or (float(np.nanmin(values)), float(np.nanmax(values)))
        image = axes.imshow(values, cmap=colours, vmin=low, vmax=high, aspect="auto", interpolation="nearest")
        _names(axes.set_xticks, columns, rotation=90 if turned else 0)
        _names(axes.set_yticks, rows)
        axes.set(xlabel=labels[0], ylabel=labels[1])
        axes.set_title(title, fontsize=9)
        figure.colorbar(image, ax=axes, shrink=0.8)
        if annotated:
            _annotate(axes, values, image)
    return figure


def _names(setter: Any, names: Sequence[str], **style: Any) -> None:
    setter(range(len(names)) if len(names) <= _MOST_NAMES else [], names if len(names) <= _MOST_NAMES else [], **style)


def _annotate(axes: Any, values: AnyArray, image: Any) -> None:
    """Write the value into each cell, in white on dark cells."""
    for (row, column), value in np.ndenumerate(values):
        if np.isfinite(value):
            red, green, blue, _ = image.to_rgba(value)
            shade = "white" if 0.3 * red + 0.6 * green + 0.1 * blue < 0.5 else "black"
            axes.text(column, row, f"{value:.2f}", ha="center", va="center", fontsize=7, color=shade)


def curves(
    lines: Mapping[str, tuple[Sequence[float], Sequence[float]]],
    *,
    labels: tuple[str, str],
    title: str,
    ticks: Sequence[str] | None = None,
    marker: str = "",
) -> Figure:
    """Return a line plot.

    Args:
        lines: name -> x values and y values.
        labels: labels of the horizontal and the vertical axis.
        title: title of the figure.
        ticks: tick labels of x = 0, 1, ...; ``None``: numeric ticks.
        marker: matplotlib marker of the points.
    """
    with matplotlib.rc_context(FIGURE_STYLE):
        figure = blank(min(max(5.0, 0.22 * len(ticks or ())), 11.0), 3.4 + (0.8 if ticks else 0))
        axes = figure.add_subplot()
        for number, (name, (x, y)) in enumerate(lines.items()):
            stroke = ("-", "--", ":")[number // len(FIRST_COLOURS) % 3]
            axes.plot(x, y, stroke, label=name, color=colour(number), marker=marker, markersize=3, linewidth=1.2)
        if ticks:
            _names(axes.set_xticks, ticks, rotation=90)
        else:
            axes.xaxis.set_major_locator(MaxNLocator(integer=True))  # epochs, directions
        axes.set(xlabel=labels[0], ylabel=labels[1])
        axes.set_title(title, fontsize=9)
        figure.legend(frameon=False, fontsize=8, loc="outside right upper" if len(lines) > 3 else "outside upper right")
    return figure

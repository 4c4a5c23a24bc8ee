"""Figures of the singular values of embedding tables.

Legend: T tables, K width of a table.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import matplotlib
import numpy as np

from stemlab.analysis import plots
from stemlab.analysis.base import CaptionedFigure
from stemlab.analysis.collapse.spectra import normalised_spectrum
from stemlab.analysis.collapse.table_spectra import RunSpectra, TableSpectrum

_MARKERS = "os^DvPX"
_ABUNDANCE = "Information Abundance"


def spectrum_figures(runs: Sequence[RunSpectra], norm: str) -> dict[str, CaptionedFigure]:
    """Return file name -> figure: one heat map per run, and the figures that compare the runs.

    Args:
        runs: at least one.
        norm: ``l2`` or ``none``.
    """
    return {
        **{f"spectra_{n}": _heat_map(run, norm) for n, run in enumerate(runs, 1)},
        "abundance": _overlay(runs, norm),
        "tokens": _scatter(runs, norm),
        **_over_epochs(runs, norm),
    }


def _heat_map(run: RunSpectra, norm: str) -> CaptionedFigure:
    tables = sorted(run.tables, key=lambda table: (table.rows, table.name))
    width = max(table.width for table in tables)
    figure = plots.heat_map(
        np.array([normalised_spectrum(table.values[norm], width) for table in tables]),
        [f"{table.name} ({table.rows:,})" for table in tables],
        [str(k + 1) for k in range(width)],
        labels=("index of singular value", "table (tokens)"),
        title=f"{run.label}: singular values divided by the largest",
        limits=(0.0, 1.0),
    )
    return CaptionedFigure(figure, f"{run.label}: normalised spectrum of every table, sorted by number of tokens.")


def _series(runs: Sequence[RunSpectra]) -> dict[str, list[TableSpectrum]]:
    """Return run and role -> tables; the role is left out if all tables are shared."""
    only_shared = all(table.role == "shared" for run in runs for table in run.tables)
    found: dict[str, list[TableSpectrum]] = {}
    for run in runs:
        for table in run.tables:
            found.setdefault(run.label if only_shared else f"{run.label} {table.role}", []).append(table)
    return found


def _overlay(runs: Sequence[RunSpectra], norm: str) -> CaptionedFigure:
    """Draw abundance by field, one curve per run and role."""
    size = {table.field: table.rows for run in runs for table in run.tables}
    fields = sorted(size, key=lambda field: (size[field], field))
    lines = {}
    for name, tables in _series(runs).items():
        ordered = sorted(tables, key=lambda table: fields.index(table.field))
        lines[name] = ([fields.index(table.field) for table in ordered], [table.abundance(norm) for table in ordered])
    figure = plots.curves(lines, labels=("field, by tokens", _ABUNDANCE), title="", ticks=fields, marker="o")
    return CaptionedFigure(figure, f"{_ABUNDANCE} of every field, sorted by number of tokens.")


def _scatter(runs: Sequence[RunSpectra], norm: str) -> CaptionedFigure:
    """Draw abundance against the number of tokens, one marker per run and role, with the upper bound."""
    tables = [table for run in runs for table in run.tables]
    rows, width = max(table.rows for table in tables), max(table.width for table in tables)
    bound = np.array([*range(1, min(width, rows)), min(width, rows), rows])
    series = _series(runs)
    with matplotlib.rc_context(plots.FIGURE_STYLE):
        figure = plots.blank(min(4.8 + 0.07 * max(map(len, series)), 9.0), 3.6)
        axes = figure.add_subplot()
        axes.plot(np.log10(bound), np.minimum(bound, width), color="0.75", linewidth=1, label="upper bound")
        for number, (name, points) in enumerate(series.items()):
            axes.scatter(
                [log_tokens(table) for table in points],
                [table.abundance(norm) for table in points],
                s=18,
                marker=_MARKERS[number % len(_MARKERS)],
                color=plots.colour(number),
                alpha=0.8,
                linewidths=0,
                label=name,
            )
        axes.set(xlabel="log10 of tokens", ylabel=_ABUNDANCE)
        figure.legend(frameon=False, fontsize=8, loc="outside right upper")
    return CaptionedFigure(
        figure,
        f"{_ABUNDANCE} against the number of tokens, one point per table. The line is the upper bound, the smaller "
        "of the numbers of tokens and dimensions. Points far below the line on the right are collapsed large tables.",
    )


def _over_epochs(runs: Sequence[RunSpectra], norm: str) -> dict[str, CaptionedFigure]:
    """Draw mean abundance by epoch, for trainings with checkpoints of several epochs."""
    by_training: dict[str, dict[int, float]] = {}
    for run in runs:
        by_training.setdefault(run.training, {})[run.epoch] = run.mean("abundance", norm)
    lines = {
        name: (sorted(by_epoch), [by_epoch[epoch] for epoch in sorted(by_epoch)])
        for name, by_epoch in by_training.items()
        if len(by_epoch) > 1
    }
    if not lines:
        return {}
    figure = plots.curves(lines, labels=("epoch", f"mean {_ABUNDANCE}"), title="", marker="o")
    return {
        "epochs": CaptionedFigure(figure, f"Mean {_ABUNDANCE} over the epochs that were named; 0 is before training.")
    }


def log_tokens(table: TableSpectrum) -> float:
    """Return log10 of the number of tokens of a table."""
    return math.log10(table.rows)

"""Figures of tables' singular values.

Legend: T tables, K width of a table.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import matplotlib
import numpy as np

from stemlab.analysis import plots
from stemlab.analysis.base import Drawing
from stemlab.analysis.collapse.spectra import normalised_spectrum
from stemlab.analysis.collapse.table_spectra import RunSpectra, TableSpectrum

MARKERS = "os^DvPX"
ABUNDANCE = "Information Abundance"


def drawings(runs: Sequence[RunSpectra], norm: str) -> dict[str, Drawing]:
    """Return, file name -> figure, a heat map a run and what compares the runs.

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


def _heat_map(run: RunSpectra, norm: str) -> Drawing:
    tables = sorted(run.tables, key=lambda table: (table.rows, table.name))
    width = max(table.width for table in tables)
    figure = plots.heat_map(
        np.array([normalised_spectrum(table.values[norm], width) for table in tables]),
        [f"{table.name} ({table.rows:,})" for table in tables],
        [str(k + 1) for k in range(width)],
        labels=("direction", "table (tokens)"),
        title=f"{run.label}: singular values over the largest",
        limits=(0.0, 1.0),
    )
    return Drawing(figure, f"{run.label}: normalised spectrum of every table, tables with few tokens first.")


def _series(runs: Sequence[RunSpectra]) -> dict[str, list[TableSpectrum]]:
    """Return, run and role -> tables; the role is not told where all are shared."""
    only_shared = all(table.role == "shared" for run in runs for table in run.tables)
    found: dict[str, list[TableSpectrum]] = {}
    for run in runs:
        for table in run.tables:
            found.setdefault(run.label if only_shared else f"{run.label} {table.role}", []).append(table)
    return found


def _overlay(runs: Sequence[RunSpectra], norm: str) -> Drawing:
    """Abundance by field, a curve a run and role."""
    size = {table.field: table.rows for run in runs for table in run.tables}
    fields = sorted(size, key=lambda field: (size[field], field))
    lines = {}
    for name, tables in _series(runs).items():
        ordered = sorted(tables, key=lambda table: fields.index(table.field))
        places = [fields.index(table.field) for table in ordered]
        lines[name] = (places, [table.abundance(norm) for table in ordered])
    figure = plots.curves(lines, labels=("field, by tokens", ABUNDANCE), title="", ticks=fields, marker="o")
    return Drawing(figure, f"{ABUNDANCE} of every field, fields with few tokens first.")


def _scatter(runs: Sequence[RunSpectra], norm: str) -> Drawing:
    """Abundance against the number of tokens, a marker a run and role, below the largest that is possible."""
    tables = [table for run in runs for table in run.tables]
    most, width = max(table.rows for table in tables), max(table.width for table in tables)
    bound = np.array([*range(1, min(width, most)), min(width, most), most])
    series = _series(runs)
    with matplotlib.rc_context(plots.STYLE):
        figure = plots.blank(min(4.8 + 0.07 * max(map(len, series)), 9.0), 3.6)
        axes = figure.add_subplot()
        axes.plot(np.log10(bound), np.minimum(bound, width), color="0.75", linewidth=1, label="largest possible")
        for number, (name, points) in enumerate(series.items()):
            axes.scatter(
                [log_tokens(table) for table in points],
                [table.abundance(norm) for table in points],
                s=18,
                marker=MARKERS[number % len(MARKERS)],
                color=plots.colour(number),
                alpha=0.8,
                linewidths=0,
                label=name,
            )
        axes.set(xlabel="log10 of tokens", ylabel=ABUNDANCE)
        figure.legend(frameon=False, fontsize=8, loc="outside right upper")
    return Drawing(
        figure,
        f"{ABUNDANCE} against the number of tokens, a point a table; the line is the largest that is possible, the "
        "smaller one of tokens and dimensions. Points far below it at the right are large tables that collapsed.",
    )


def _over_epochs(runs: Sequence[RunSpectra], norm: str) -> dict[str, Drawing]:
    """Mean abundance by epoch, of trainings of which several epochs were named."""
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
    figure = plots.curves(lines, labels=("epoch", f"mean {ABUNDANCE}"), title="", marker="o")
    return {"epochs": Drawing(figure, f"Mean {ABUNDANCE} over the epochs that were named; 0 is before training.")}


def log_tokens(table: TableSpectrum) -> float:
    """Return the decadic logarithm of a table's number of tokens."""
    return math.log10(table.rows)

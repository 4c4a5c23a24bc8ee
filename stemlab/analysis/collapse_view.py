"""Spectra of tables as numbers, matrices and figures.

Legend: K width of a table.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

import numpy as np

from stemlab.analysis import interaction as interactions
from stemlab.analysis import plots, spectra
from stemlab.analysis.base import Drawing, Findings, Matrix
from stemlab.analysis.interaction import Interaction
from stemlab.analysis.spectra import Doubles, information_abundance, normalised_spectrum

NORMS = ("none", "l2")
STATISTICS = (
    *("rows", "width", "abundance_none", "abundance_l2", "share_of_possible_none", "share_of_possible_l2"),
    *("effective_rank", "stable_rank", "rank_at_1_percent", "energy_of_largest", "energy_of_5_largest"),
)
LEVELS = ((0.25, "strongly collapsed"), (0.5, "partly collapsed"))
"""Below these mean shares of the possible abundance; the published Criteo model (6.64 of 40) is at 0.17."""

READING = (
    "Information Abundance is the sum of a table's singular values over the largest: 1 when all rows lie on one line, "
    "K when the K directions are used alike. It cannot exceed the number of tokens, so fields with fewer tokens than "
    "dimensions are judged by what is possible for them.",
    "A table drawn at random with many more rows than dimensions is near K: training makes it smaller. Compare runs of "
    "the same width, or the shares of what is possible.",
    "In the heat map a row is a table, dark where a direction is as strong as the strongest one. A collapsed table is "
    "dark at the left end only.",
)


@dataclass(frozen=True)
class TableSpectrum:
    """Singular values of one table.

    Attributes:
        field: its field.
        role: its role.
        rows: tokens that count.
        width: K.
        values: ``none`` or ``l2`` -> singular values, descending.
    """

    field: str
    role: str
    rows: int
    width: int
    values: Mapping[str, Doubles]

    @property
    def name(self) -> str:
        """Field, and the role where it is not the shared table."""
        return self.field if self.role == "shared" else f"{self.field} {self.role}"

    def abundance(self, norm: str) -> float:
        """Information Abundance."""
        return information_abundance(self.values[norm])

    def share(self, norm: str) -> float:
        """Abundance over the largest possible, min(rows, K)."""
        return self.abundance(norm) / min(self.rows, self.width)

    def statistics(self) -> dict[str, float]:
        """Everything that is said of the table; ranks and energies are those of the table as it is."""
        values = self.values["none"]
        told = (
            *(self.rows, self.width, self.abundance("none"), self.abundance("l2")),
            *(self.share("none"), self.share("l2"), spectra.effective_rank(values), spectra.stable_rank(values)),
            *(spectra.numeric_rank(values), spectra.energy_share(values, 1), spectra.energy_share(values, 5)),
        )
        return dict(zip(STATISTICS, told, strict=True))


@dataclass(frozen=True)
class RunSpectra:
    """Spectra of a run's tables, and the fields that have no token."""

    label: str
    tables: tuple[TableSpectrum, ...]
    left_out: tuple[str, ...] = ()

    def judged(self) -> list[TableSpectrum]:
        """Tables that could use all K directions; where there is none, all tables with two tokens."""
        wide = [table for table in self.tables if table.rows >= table.width]
        return wide or [table for table in self.tables if table.rows > 1] or list(self.tables)

    def mean(self, what: str, norm: str) -> float:
        """Mean ``abundance`` or ``share`` of the judged tables; tables of zeros do not count."""
        found = [getattr(table, what)(norm) for table in self.judged()]
        known = [value for value in found if value == value]
        return fmean(known) if known else float("nan")


def findings(runs: Sequence[RunSpectra], maps: Sequence[Interaction], notes: Sequence[str], norm: str) -> Findings:
    """Return what the runs' spectra say.

    Args:
        runs: at least one.
        maps: abundances after interaction.
        notes: what was left out and why.
        norm: which of the two kinds is drawn and judged.
    """
    names = [f"{run.label}/{table.field}/{table.role}" for run in runs for table in run.tables]
    tables = [table for run in runs for table in run.tables]
    width = max(table.width for table in tables)
    spectra_TK = np.array([normalised_spectrum(table.values[norm], width) for table in tables])
    statistics = [table.statistics() for table in tables]
    matrices = {
        "abundance": Matrix(
            names, STATISTICS, np.array([list(told.values()) for told in statistics]), "run/field/role"
        ),
        **{f"interaction_{n}": found.matrix() for n, found in enumerate(maps, 1)},
        "spectra": Matrix(names, [str(k + 1) for k in range(width)], spectra_TK, "run/field/role"),
    }
    return Findings(
        title="Dimensional collapse",
        verdict=" ".join(_verdict(run, norm) for run in runs),
        reading=[*READING, _told_norm(norm), *([interactions.READING] if maps else [])],
        numbers={
            "row_norm": norm,
            "runs": {run.label: _numbers(run) for run in runs},
            "interaction": {found.label: found.numbers() for found in maps},
        },
        matrices=matrices,
        drawings={
            **{f"spectra_{n}": _heat_map(run, norm) for n, run in enumerate(runs, 1)},
            **_overlay(runs, norm),
            **{f"interaction_{n}": found.drawing() for n, found in enumerate(maps, 1)},
        },
        notes=[*notes, *(_left_out(run) for run in runs if run.left_out)],
    )


def _left_out(run: RunSpectra) -> str:
    return f"{run.label}: {', '.join(run.left_out)} left out: no token besides padding and out-of-vocabulary."


def _told_norm(norm: str) -> str:
    if norm == "l2":
        return "Rows are divided by their length first, as in the published figures; results.json has both kinds."
    return "Tables are taken as they are, as in the published definition; results.json has both kinds."


def _verdict(run: RunSpectra, norm: str) -> str:
    abundance, share, width = run.mean("abundance", norm), run.mean("share", norm), run.judged()[0].width
    level = next((word for limit, word in LEVELS if share < limit), "not collapsed")
    return (
        f"{run.label}: {level}, mean Information Abundance {abundance:.2f} of {width} dimensions "
        f"({share:.0%} of what is possible)."
    )


def _numbers(run: RunSpectra) -> dict[str, Any]:
    return {
        "mean_abundance": {norm: run.mean("abundance", norm) for norm in NORMS},
        "mean_share_of_possible": {norm: run.mean("share", norm) for norm in NORMS},
        "tables": [{"field": table.field, "role": table.role, **table.statistics()} for table in run.tables],
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


def _overlay(runs: Sequence[RunSpectra], norm: str) -> dict[str, Drawing]:
    """Abundance by field, a curve a run and role."""
    size = {table.field: table.rows for run in runs for table in run.tables}
    fields = sorted(size, key=lambda field: (size[field], field))
    lines: dict[str, tuple[list[float], list[float]]] = {}
    only_shared = all(table.role == "shared" for run in runs for table in run.tables)
    for run in runs:
        for table in sorted(run.tables, key=lambda table: fields.index(table.field)):
            name = run.label if only_shared else f"{run.label} {table.role}"
            x, y = lines.setdefault(name, ([], []))
            x.append(fields.index(table.field))
            y.append(table.abundance(norm))
    figure = plots.curves(
        lines, labels=("field, by tokens", "Information Abundance"), title="", ticks=fields, marker="o"
    )
    return {"abundance": Drawing(figure, "Information Abundance of every field, fields with few tokens first.")}

"""Spectra of runs' tables as numbers, matrices and figures.

Legend: T tables, K width of a table.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from stemlab.analysis.base import Findings, Matrix
from stemlab.analysis.collapse import projected_spectra as interactions
from stemlab.analysis.collapse.figures import drawings, log_tokens
from stemlab.analysis.collapse.projected_spectra import Interaction
from stemlab.analysis.collapse.spectra import normalised_spectrum
from stemlab.analysis.collapse.table_spectra import NORMS, STATISTICS, RunSpectra
from stemlab.analysis.correlation.agreement import pearson

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
            **drawings(runs, norm),
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
        "pearson_with_log_tokens": {norm: _with_tokens(run, norm) for norm in NORMS},
        "epochs_trained": run.epoch,
        "tables": [{"field": table.field, "role": table.role, **table.statistics()} for table in run.tables],
    }


def _with_tokens(run: RunSpectra, norm: str) -> float:
    """Correlation of abundance with the logarithm of the number of tokens; tables of zeros do not count."""
    points = [(log_tokens(table), table.abundance(norm)) for table in run.tables]
    known = np.array([point for point in points if point[1] == point[1]]).reshape(-1, 2)
    return pearson(known[:, 0], known[:, 1])

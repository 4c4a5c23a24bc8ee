"""Findings of the collapse analysis: spectra as numbers, matrices and figures.

Legend: T tables, K width of a table.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from stemlab.analysis.base import Findings, Matrix
from stemlab.analysis.collapse.figures import log_tokens, spectrum_figures
from stemlab.analysis.collapse.projected_spectra import HOW_TO_READ, ProjectedAbundance
from stemlab.analysis.collapse.spectra import normalised_spectrum
from stemlab.analysis.collapse.table_spectra import NORMS, STATISTICS, RunSpectra
from stemlab.analysis.correlation.agreement import pearson

_LEVELS = ((0.25, "strongly collapsed"), (0.5, "partly collapsed"))
"""Upper limits of the mean share of the possible abundance; Criteo in the released notebook (6.64 of 40) has 0.17."""

_READING = (
    "Information Abundance is the sum of the singular values of a table divided by the largest one: 1 if all rows are "
    "multiples of one vector, K if all K singular values are equal. It cannot exceed the number of tokens; therefore a "
    "field with fewer tokens than dimensions is compared with its own upper bound.",
    "A randomly initialised table with many more rows than dimensions has a value close to K; training lowers it. "
    "Compare runs with the same embedding dimension, or compare the shares of the upper bound.",
    "In the heat map each row is a table and each column a singular value; a dark cell is a singular value close to "
    "the largest one. A collapsed table is dark only at the left end.",
)


def findings(
    runs: Sequence[RunSpectra], maps: Sequence[ProjectedAbundance], notes: Sequence[str], norm: str
) -> Findings:
    """Return the findings.

    Args:
        runs: spectra of at least one run.
        maps: abundances after interaction.
        notes: sentences about parts that were left out.
        norm: normalisation (``l2`` or ``none``) of figures and verdict.
    """
    names = [f"{run.label}/{table.field}/{table.role}" for run in runs for table in run.tables]
    tables = [table for run in runs for table in run.tables]
    width = max(table.width for table in tables)
    spectra_TK = np.array([normalised_spectrum(table.values[norm], width) for table in tables])
    statistics = [table.statistics() for table in tables]
    matrices = {
        "abundance": Matrix(
            names, STATISTICS, np.array([list(values.values()) for values in statistics]), "run/field/role"
        ),
        **{f"interaction_{n}": found.matrix() for n, found in enumerate(maps, 1)},
        "spectra": Matrix(names, [str(k + 1) for k in range(width)], spectra_TK, "run/field/role"),
    }
    return Findings(
        title="Dimensional collapse",
        verdict=" ".join(_verdict(run, norm) for run in runs),
        reading=[*_READING, _norm_sentence(norm), *([HOW_TO_READ] if maps else [])],
        numbers={
            "row_norm": norm,
            "runs": {run.label: _numbers(run) for run in runs},
            "interaction": {found.label: found.numbers() for found in maps},
        },
        matrices=matrices,
        figures={
            **spectrum_figures(runs, norm),
            **{f"interaction_{n}": found.figure() for n, found in enumerate(maps, 1)},
        },
        notes=[*notes, *(_left_out(run) for run in runs if run.left_out)],
    )


def _left_out(run: RunSpectra) -> str:
    return f"{run.label}: {', '.join(run.left_out)} left out: no tokens other than padding and out-of-vocabulary."


def _norm_sentence(norm: str) -> str:
    if norm == "l2":
        return "Rows are scaled to unit length first, as in the released notebook; results.json has both variants."
    return "Tables are used unchanged, as in the definition of the paper; results.json has both variants."


def _verdict(run: RunSpectra, norm: str) -> str:
    abundance, share, width = run.mean("abundance", norm), run.mean("share", norm), run.tables_for_verdict()[0].width
    level = next((word for limit, word in _LEVELS if share < limit), "not collapsed")
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
    """Return the correlation of abundance with the logarithm of the number of tokens; all-zero tables are ignored."""
    points = [(log_tokens(table), table.abundance(norm)) for table in run.tables]
    known = np.array([point for point in points if point[1] == point[1]]).reshape(-1, 2)
    return pearson(known[:, 0], known[:, 1])

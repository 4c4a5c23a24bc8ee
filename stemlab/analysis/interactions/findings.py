"""Findings of the interactions analysis: importance of pairs and fields as numbers, matrices and heat maps.

Legend: S scenarios, T tasks, P pairs, F fields, C cells (combinations of scenario and task that have samples).
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from stemlab.analysis import plots
from stemlab.analysis.base import CaptionedFigure, Findings, Matrix
from stemlab.analysis.correlation.agreement import spearman
from stemlab.array_types import Float64Array
from stemlab.models.multiscenario.mmfi_importance import Importance

Measure = Literal["strength", "attention", "open"]
_MEASURE_LABELS = {
    "strength": "RMS deviation of the pair's contribution to the tower input",
    "attention": "mean weight of the pair",
    "open": "share of samples with a non-zero weight of the pair",
}
_READING = (
    "There is one heat map per scenario and task, with one row and one column per field. A darker square means that "
    "the pair of fields has more influence on samples of this scenario and task.",
    "Hard masks are between 0 and 1, independently for every pair; soft weights sum to 1 over all pairs. Both are "
    "multiplied by scalars of the pair and by the vectors of the fields, so a pair with a large weight can still have "
    "no influence. Strength is the root mean square deviation of the contribution of a pair from its mean over "
    "samples; compare it only within a run.",
    "If the strongest pairs are the same for all scenarios and tasks, a model without scenarios can represent them. "
    "Compare two seeds to see which differences are random.",
)


@dataclass(frozen=True)
class RunInteractions:
    """Importances of a run.

    Attributes:
        label: label of the run.
        importance: means over samples.
    """

    label: str
    importance: Importance

    @property
    def cells(self) -> list[tuple[int, int, str]]:
        """Scenario index, task index and name of every cell that has samples."""
        names = itertools.product(enumerate(self.importance.scenarios), enumerate(self.importance.tasks))
        single = len(self.importance.scenarios) == 1
        samples_S = self.importance.samples_S
        return [
            (s, t, task if single else f"{scenario} {task}") for (s, scenario), (t, task) in names if samples_S[s] > 0
        ]

    def pairs(self, measure: Measure) -> Float64Array:
        """Return the (C, P) values of a measure."""
        values = {
            "strength": self.importance.strength(),
            "attention": self.importance.pair_STP,
            "open": self.importance.open_STP,
        }[measure].numpy()
        return np.stack([values[s, t] for s, t, _ in self.cells])

    def fields(self) -> Float64Array:
        """Return the (C, F) weights of the first-order branch."""
        values = self.importance.field_STF.numpy()
        return np.stack([values[s, t] for s, t, _ in self.cells])

    def square(self, value_P: Float64Array) -> Float64Array:
        """Return the (P,) values of pairs as a symmetric (F, F) matrix with NaN on the diagonal."""
        F = len(self.importance.fields)
        found = np.full((F, F), np.nan)
        i, j = np.triu_indices(F, 1)
        found[i, j] = found[j, i] = value_P
        return found


def findings(runs: Sequence[RunInteractions], measure: Measure, top: int) -> Findings:
    """Return the findings.

    Args:
        runs: importances of at least one run.
        measure: measure of figures and verdict.
        top: number of pairs listed per cell.
    """
    matrices: dict[str, Matrix] = {}
    figures: dict[str, CaptionedFigure] = {}
    for number, run in enumerate(runs, start=1):
        ending = f"_{number}" if len(runs) > 1 else ""
        matrices |= {f"{name}{ending}": matrix for name, matrix in _matrices(run).items()}
        figures |= {f"{name}{ending}": captioned for name, captioned in _figures(run, measure).items()}
    return Findings(
        title="Learned interactions",
        verdict=" ".join(_verdict(run, measure) for run in runs),
        reading=_READING,
        numbers={"measure": measure, "runs": {run.label: _numbers(run, measure, top) for run in runs}},
        matrices=matrices,
        figures=figures,
        notes=[note for run in runs for note in _notes(run)],
    )


def _matrices(run: RunInteractions) -> dict[str, Matrix]:
    columns = [name for _, _, name in run.cells]
    pairs, fields = [_pair_name(pair) for pair in run.importance.pairs], run.importance.fields
    found = {measure: Matrix(pairs, columns, run.pairs(measure).T, "pair") for measure in _MEASURE_LABELS}  # type: ignore[arg-type]
    agreement = Matrix(columns, columns, _agreement(run.pairs("strength")), "scenario and task")
    return found | {"fields": Matrix(fields, columns, run.fields().T, "field"), "agreement": agreement}


def _agreement(value_CP: Float64Array) -> Float64Array:
    """Return Spearman's correlation of the pairs between cells, (C, C)."""
    return np.array([[spearman(one, other) for other in value_CP] for one in value_CP])


def _figures(run: RunInteractions, measure: Measure) -> dict[str, CaptionedFigure]:
    value_CP = run.pairs(measure)
    limits = (0.0, float(value_CP.max()) or 1.0)  # one colour scale for all cells
    found = {}
    for (_, _, name), value_P in zip(run.cells, value_CP, strict=True):
        figure = plots.heat_map(
            run.square(value_P),
            run.importance.fields,
            run.importance.fields,
            labels=("field", "field"),
            title=f"{run.label}, {name}: {_MEASURE_LABELS[measure]}",
            limits=limits,
        )
        strongest = _pair_name(run.importance.pairs[int(value_P.argmax())])
        found[f"pairs_{_file(name)}"] = CaptionedFigure(
            figure, f"{run.label}, {name}: {_MEASURE_LABELS[measure]}; strongest pair: {strongest}."
        )
    columns = [name for _, _, name in run.cells]
    figure = plots.heat_map(
        run.fields(),
        columns,
        run.importance.fields,
        labels=("field", "scenario and task"),
        title=f"{run.label}: mean weight of a field (first-order branch)",
    )
    found["fields"] = CaptionedFigure(
        figure, f"{run.label}: mean weights of the first-order branch; every row adds up to 1."
    )
    return found


def _numbers(run: RunInteractions, measure: Measure, top: int) -> dict[str, Any]:
    value_CP, open_CP = run.pairs(measure), run.pairs("open")
    cells = {}
    for number, (s, _, name) in enumerate(run.cells):
        order = np.argsort(-value_CP[number], kind="stable")[:top]
        cells[name] = {
            "rows": int(run.importance.samples_S[s]),
            "mean_open": float(open_CP[number].mean()),
            "pairs": [[*run.importance.pairs[p], float(value_CP[number][p])] for p in order],
        }
    return {"cells": cells, **_between(run)}


def _between(run: RunInteractions) -> dict[str, float | None]:
    """Return the mean agreement of two scenarios for the same task, and of two tasks in the same scenario."""
    matrix = _agreement(run.pairs("strength"))
    cells = list(enumerate(run.cells))
    scenarios = [matrix[a, b] for (a, x), (b, y) in itertools.combinations(cells, 2) if x[1] == y[1]]
    tasks = [matrix[a, b] for (a, x), (b, y) in itertools.combinations(cells, 2) if x[0] == y[0]]
    return {"between_scenarios": _mean(scenarios), "between_tasks": _mean(tasks)}


def _mean(values: Sequence[float]) -> float | None:
    known = [float(value) for value in values if value == value]
    return sum(known) / len(known) if known else None


def _verdict(run: RunInteractions, measure: Measure) -> str:
    value_CP = run.pairs(measure)
    cell = int(value_CP.max(axis=1).argmax())
    strongest = _pair_name(run.importance.pairs[int(value_CP[cell].argmax())])
    first = f"{run.label}: the strongest pair is {strongest}, for {run.cells[cell][2]} ({value_CP[cell].max():.3g})"
    words = {"between_scenarios": "scenarios", "between_tasks": "tasks"}
    agreed = [f"between {words[key]} {value:.2f}" for key, value in _between(run).items() if value is not None]
    return f"{first}; rank correlation of pairs (Spearman): {', '.join(agreed)}." if agreed else f"{first}."


def _notes(run: RunInteractions) -> list[str]:
    empty = [
        name for name, rows in zip(run.importance.scenarios, run.importance.samples_S.tolist(), strict=True) if not rows
    ]
    return [f"{run.label}: no samples of {', '.join(empty)} were read."] if empty else []


def _pair_name(pair: tuple[str, str]) -> str:
    return " x ".join(pair)


def _file(name: str) -> str:
    return re.sub(r"\W+", "_", name)

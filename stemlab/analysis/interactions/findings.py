"""Importances of pairs and fields as numbers, tables and heat maps.

Legend: S scenarios, T tasks, P pairs, F fields, C = S * T cells, of which only those with rows are told.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from stemlab.analysis import plots
from stemlab.analysis.base import Drawing, Findings, Matrix
from stemlab.analysis.correlation.agreement import spearman
from stemlab.array_types import Float64Array
from stemlab.models.multiscenario.mmfi_importance import Importance

Measure = Literal["strength", "attention", "open"]
TOLD = {
    "strength": "spread over rows of what a pair adds to the tower's input",
    "attention": "mean weight of a pair",
    "open": "share of the rows in which a pair's weight is not zero",
}
READING = (
    "A cell is a scenario and a task. Its heat map has a row and a column a field; the darker a square, the more that "
    "pair counts for rows of that scenario and that task.",
    "A hard mask is between 0 and 1 for every pair by itself; soft weights share 1 among all pairs. Either is "
    "multiplied by scalars of the pair and by the fields' vectors, so an open mask may do nothing. The strength is the "
    "root mean square distance of what a pair adds from its mean over rows; it is comparable inside one run.",
    "Pairs that are the same in all cells could be had from a model without scenarios. Two seeds show how much of a "
    "difference between cells is chance.",
)


@dataclass(frozen=True)
class RunInteractions:
    """What a run's rows attend to.

    Attributes:
        label: of the run.
        importance: means over rows.
    """

    label: str
    importance: Importance

    @property
    def cells(self) -> list[tuple[int, int, str]]:
        """Scenario, task and name of every cell that has rows."""
        names = itertools.product(enumerate(self.importance.scenarios), enumerate(self.importance.tasks))
        one = len(self.importance.scenarios) == 1
        rows_S = self.importance.rows_S
        return [(s, t, task if one else f"{place} {task}") for (s, place), (t, task) in names if rows_S[s] > 0]

    def pairs(self, measure: Measure) -> Float64Array:
        """Return (C, P)."""
        values = {
            "strength": self.importance.strength(),
            "attention": self.importance.pair_STP,
            "open": self.importance.open_STP,
        }[measure].numpy()
        return np.stack([values[s, t] for s, t, _ in self.cells])

    def fields(self) -> Float64Array:
        """Return the weights (C, F) of the first-order branch."""
        values = self.importance.field_STF.numpy()
        return np.stack([values[s, t] for s, t, _ in self.cells])

    def square(self, value_P: Float64Array) -> Float64Array:
        """Return pairs as a symmetric (F, F); nan on the diagonal."""
        F = len(self.importance.fields)
        found = np.full((F, F), np.nan)
        i, j = np.triu_indices(F, 1)
        found[i, j] = found[j, i] = value_P
        return found


def findings(runs: Sequence[RunInteractions], measure: Measure, top: int) -> Findings:
    """Return what the runs weigh.

    Args:
        runs: at least one.
        measure: what is drawn and told.
        top: pairs told of every cell.
    """
    matrices: dict[str, Matrix] = {}
    drawings: dict[str, Drawing] = {}
    for number, run in enumerate(runs, start=1):
        ending = f"_{number}" if len(runs) > 1 else ""
        matrices |= {f"{name}{ending}": matrix for name, matrix in _matrices(run).items()}
        drawings |= {f"{name}{ending}": drawing for name, drawing in _drawings(run, measure).items()}
    return Findings(
        title="Learnt interactions",
        verdict=" ".join(_verdict(run, measure) for run in runs),
        reading=READING,
        numbers={"measure": measure, "runs": {run.label: _numbers(run, measure, top) for run in runs}},
        matrices=matrices,
        drawings=drawings,
        notes=[note for run in runs for note in _notes(run)],
    )


def _matrices(run: RunInteractions) -> dict[str, Matrix]:
    columns = [name for _, _, name in run.cells]
    pairs, fields = [_told(pair) for pair in run.importance.pairs], run.importance.fields
    found = {measure: Matrix(pairs, columns, run.pairs(measure).T, "pair") for measure in TOLD}  # type: ignore[arg-type]
    agreement = Matrix(columns, columns, _agreement(run.pairs("strength")), "scenario and task")
    return found | {"fields": Matrix(fields, columns, run.fields().T, "field"), "agreement": agreement}


def _agreement(value_CP: Float64Array) -> Float64Array:
    """Spearman's correlation (C, C) of the cells' pairs."""
    return np.array([[spearman(one, other) for other in value_CP] for one in value_CP])


def _drawings(run: RunInteractions, measure: Measure) -> dict[str, Drawing]:
    value_CP = run.pairs(measure)
    limits = (0.0, float(value_CP.max()) or 1.0)  # the same colours in all cells
    found = {}
    for (_, _, name), value_P in zip(run.cells, value_CP, strict=True):
        figure = plots.heat_map(
            run.square(value_P),
            run.importance.fields,
            run.importance.fields,
            labels=("field", "field"),
            title=f"{run.label}, {name}: {TOLD[measure]}",
            limits=limits,
        )
        strongest = _told(run.importance.pairs[int(value_P.argmax())])
        found[f"pairs_{_file(name)}"] = Drawing(figure, f"{run.label}, {name}: {TOLD[measure]}; most: {strongest}.")
    columns = [name for _, _, name in run.cells]
    figure = plots.heat_map(
        run.fields(),
        columns,
        run.importance.fields,
        labels=("field", "scenario and task"),
        title=f"{run.label}: mean weight of a field by itself",
    )
    found["fields"] = Drawing(figure, f"{run.label}: mean weights of the first-order branch; every row adds up to 1.")
    return found


def _numbers(run: RunInteractions, measure: Measure, top: int) -> dict[str, Any]:
    value_CP, open_CP = run.pairs(measure), run.pairs("open")
    cells = {}
    for number, (s, _, name) in enumerate(run.cells):
        order = np.argsort(-value_CP[number], kind="stable")[:top]
        cells[name] = {
            "rows": int(run.importance.rows_S[s]),
            "mean_open": float(open_CP[number].mean()),
            "pairs": [[*run.importance.pairs[p], float(value_CP[number][p])] for p in order],
        }
    return {"cells": cells, **_between(run)}


def _between(run: RunInteractions) -> dict[str, float | None]:
    """Mean agreement of two scenarios for the same task, and of two tasks in the same scenario."""
    matrix = _agreement(run.pairs("strength"))
    places = list(enumerate(run.cells))
    scenarios = [matrix[a, b] for (a, x), (b, y) in itertools.combinations(places, 2) if x[1] == y[1]]
    tasks = [matrix[a, b] for (a, x), (b, y) in itertools.combinations(places, 2) if x[0] == y[0]]
    return {"between_scenarios": _mean(scenarios), "between_tasks": _mean(tasks)}


def _mean(values: Sequence[float]) -> float | None:
    known = [float(value) for value in values if value == value]
    return sum(known) / len(known) if known else None


def _verdict(run: RunInteractions, measure: Measure) -> str:
    value_CP = run.pairs(measure)
    place = int(value_CP.max(axis=1).argmax())
    strongest = _told(run.importance.pairs[int(value_CP[place].argmax())])
    told = f"{run.label} weighs {strongest} most, for {run.cells[place][2]} ({value_CP[place].max():.3g})"
    words = {"between_scenarios": "scenarios", "between_tasks": "tasks"}
    agreed = [f"{words[key]} by {value:.2f}" for key, value in _between(run).items() if value is not None]
    return f"{told}; the order of pairs agrees between {', '.join(agreed)} (Spearman)." if agreed else f"{told}."


def _notes(run: RunInteractions) -> list[str]:
    empty = [
        name for name, rows in zip(run.importance.scenarios, run.importance.rows_S.tolist(), strict=True) if not rows
    ]
    return [f"{run.label}: no rows were read of {', '.join(empty)}."] if empty else []


def _told(pair: tuple[str, str]) -> str:
    return " x ".join(pair)


def _file(name: str) -> str:
    return re.sub(r"\W+", "_", name)

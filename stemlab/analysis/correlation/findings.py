"""Correlations as numbers, tables and heat maps.

Legend: T target categories, C behaviour categories, P positions.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from stemlab.analysis import plots
from stemlab.analysis.base import Drawing, Findings, Matrix
from stemlab.analysis.correlation.agreement import agreement, decay
from stemlab.analysis.correlation.ground_truth import scaled
from stemlab.array_types import AnyArray

READING = (
    "A matrix belongs to one category of the target item. Rows are categories of behaviours, columns say how far a "
    "behaviour lies back: 1 is the last thing the user did. In the data a cell is the mutual information (bits) "
    "between a behaviour of that category standing at that position and the label; every matrix is scaled to 0 ... 1.",
    "Two patterns are expected: the row of the target's own category stands out (meaning), and within it near "
    "behaviours matter more than far ones (time). A model that has learnt both shows the same picture; one without "
    "positions has rows of one colour.",
    "Models with target attention of the published form are read off their embeddings; others are probed: a behaviour "
    "is taken out of real histories, and the cell is the mean change of the target's score. Only patterns can be "
    "compared between models, not sizes.",
)


@dataclass(frozen=True)
class Truth:
    """The correlation in the data.

    Attributes:
        targets: T names.
        behaviours: C names.
        bits_TCP: mutual information.
        samples_T: samples of each target category.
    """

    targets: tuple[str, ...]
    behaviours: tuple[str, ...]
    bits_TCP: AnyArray
    samples_T: AnyArray

    def of(self, target: str) -> AnyArray:
        """The matrix (C, P) of a target category."""
        return np.asarray(self.bits_TCP[self.targets.index(target)])


@dataclass(frozen=True)
class Learnt:
    """What a run has learnt about one target category."""

    run: str
    target: str
    how: str
    matrix_CP: AnyArray


def findings(truth: Truth, learnt: Sequence[Learnt]) -> Findings:
    """Return how well what was learnt agrees with the data."""
    matrices, drawings = {}, {}
    for number, target in enumerate(truth.targets, start=1):
        matrices[f"data_{number}"] = _matrix(truth, truth.of(target))
        drawings[f"data_{number}"] = _heat_map(truth, truth.of(target), target, "in the data")
    for number, found in enumerate(learnt, start=1):
        matrices[f"learnt_{number}"] = _matrix(truth, found.matrix_CP)
        told = f"learnt by {found.run} ({found.how})"
        drawings[f"learnt_{number}"] = _heat_map(truth, found.matrix_CP, found.target, told)
    return Findings(
        title="Feature correlation",
        verdict=_verdict(truth, learnt),
        reading=READING,
        numbers={
            "targets": {
                target: {
                    "samples": int(truth.samples_T[number]),
                    "own_row": _own_row(truth, target, truth.of(target)),
                    "largest_bits": float(np.nanmax(truth.of(target))),
                }
                for number, target in enumerate(truth.targets)
            },
            "learnt": [_numbers(truth, found) for found in learnt],
        },
        matrices=matrices,
        drawings=drawings,
    )


def _numbers(truth: Truth, found: Learnt) -> dict[str, Any]:
    here = np.isfinite(found.matrix_CP)
    base = truth.of(found.target)
    rows = {
        name: agreement(base[row][here[row]], found.matrix_CP[row][here[row]])
        for row, name in enumerate(truth.behaviours)
        if here[row].any()
    }
    return {
        "run": found.run,
        "target": found.target,
        "how": found.how,
        "agreement": agreement(base[here], found.matrix_CP[here]),
        "agreement_by_row": rows,
        "own_row": _own_row(truth, found.target, found.matrix_CP),
    }


def _own_row(truth: Truth, target: str, matrix_CP: AnyArray) -> dict[str, Any] | None:
    """How the row of the target's own category decays, and whether it stands out."""
    if target not in truth.behaviours:
        return None
    row = matrix_CP[truth.behaviours.index(target)]
    known = row[np.isfinite(row)]
    if not len(known) or not known.any():
        return None
    return {
        "decay": decay(known / known.max())[1],
        "share_of_first_column": float(row[0] / np.nansum(matrix_CP[:, 0])) if np.nansum(matrix_CP[:, 0]) else None,
        "is_largest": bool(np.nanmax(matrix_CP) == np.nanmax(row)),
    }


def _verdict(truth: Truth, learnt: Sequence[Learnt]) -> str:
    told = []
    for target in truth.targets:
        own = _own_row(truth, target, truth.of(target))
        pattern = f"decays by {own['decay']:.2f} a position" if own else "is not among the rows"
        scores = [
            f"{found.run} {_numbers(truth, found)['agreement']['pearson']:.2f}"
            for found in learnt
            if found.target == target
        ]
        told.append(f"{target}: its own category {pattern}; agreement with the data (Pearson): {', '.join(scores)}.")
    return " ".join(told)


def _matrix(truth: Truth, matrix_CP: AnyArray) -> Matrix:
    return Matrix(truth.behaviours, [str(p + 1) for p in range(matrix_CP.shape[1])], matrix_CP, "category/position")


def _heat_map(truth: Truth, matrix_CP: AnyArray, target: str, told: str) -> Drawing:
    figure = plots.heat_map(
        scaled(matrix_CP),
        truth.behaviours,
        [str(p + 1) for p in range(matrix_CP.shape[1])],
        labels=("position before the target", "category of the behaviour"),
        title=f"target category {target}: {told}",
        limits=(0.0, 1.0),
        colours="Blues",
        annotated=True,
    )
    return Drawing(figure, f"Correlation with a target of category {target}, {told}; scaled to 0 ... 1.")

"""Findings of the correlation analysis: numbers, matrices and heat maps.

Legend: T target categories, C behaviour categories, P positions.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from stemlab.analysis import plots
from stemlab.analysis.base import CaptionedFigure, Findings, Matrix
from stemlab.analysis.correlation.agreement import agreement, decay
from stemlab.analysis.correlation.ground_truth import scaled
from stemlab.array_types import AnyArray

_READING = (
    "Each matrix belongs to one category of the target item. Rows are categories of behaviours; columns are positions "
    "in the history, and position 1 is the newest behaviour. In the matrix of the data, a cell is the mutual "
    "information (bits) of the label and the event that a behaviour of this category is at this position. Every matrix "
    "is scaled to the range from 0 to 1.",
    "Two patterns are expected: the row of the target's own category has the largest values (semantic correlation), "
    "and within this row recent behaviours have larger values than old ones (temporal correlation). A model that has "
    "learned both shows the same pattern; a model without position encodings has equal values within a row.",
    "For models with target attention of the paper's form, the learned correlation is computed from the embeddings. "
    "All other models are probed: a behaviour is removed from real histories, and the cell is the mean absolute change "
    "of the target's score. Compare patterns between models, not absolute values.",
)


@dataclass(frozen=True)
class GroundTruth:
    """Ground-truth correlation of the data.

    Attributes:
        targets: T category names.
        behaviours: C category names.
        bits_TCP: mutual information in bits.
        samples_T: number of samples of each target category.
    """

    targets: tuple[str, ...]
    behaviours: tuple[str, ...]
    bits_TCP: AnyArray
    samples_T: AnyArray

    def of(self, target: str) -> AnyArray:
        """Return the (C, P) matrix of a target category."""
        return np.asarray(self.bits_TCP[self.targets.index(target)])


@dataclass(frozen=True)
class LearnedCorrelation:
    """Correlation learned by a run for one target category.

    Attributes:
        run: label of the run.
        target: target category.
        how: ``probe``, or attention kind and formula.
        matrix_CP: learned correlation.
    """

    run: str
    target: str
    how: str
    matrix_CP: AnyArray


def findings(truth: GroundTruth, learned: Sequence[LearnedCorrelation]) -> Findings:
    """Return the findings: agreement of the learned correlations with the ground truth."""
    matrices, figures = {}, {}
    for number, target in enumerate(truth.targets, start=1):
        matrices[f"data_{number}"] = _matrix(truth, truth.of(target))
        figures[f"data_{number}"] = _heat_map(truth, truth.of(target), target, "in the data")
    for number, found in enumerate(learned, start=1):
        matrices[f"learnt_{number}"] = _matrix(truth, found.matrix_CP)
        source = f"learned by {found.run} ({found.how})"
        figures[f"learnt_{number}"] = _heat_map(truth, found.matrix_CP, found.target, source)
    return Findings(
        title="Feature correlation",
        verdict=_verdict(truth, learned),
        reading=_READING,
        numbers={
            "targets": {
                target: {
                    "samples": int(truth.samples_T[number]),
                    "own_row": _own_row(truth, target, truth.of(target)),
                    "largest_bits": float(np.nanmax(truth.of(target))),
                }
                for number, target in enumerate(truth.targets)
            },
            "learnt": [_numbers(truth, found) for found in learned],
        },
        matrices=matrices,
        figures=figures,
    )


def _numbers(truth: GroundTruth, found: LearnedCorrelation) -> dict[str, Any]:
    defined = np.isfinite(found.matrix_CP)
    base = truth.of(found.target)
    rows = {
        name: agreement(base[row][defined[row]], found.matrix_CP[row][defined[row]])
        for row, name in enumerate(truth.behaviours)
        if defined[row].any()
    }
    return {
        "run": found.run,
        "target": found.target,
        "how": found.how,
        "agreement": agreement(base[defined], found.matrix_CP[defined]),
        "agreement_by_row": rows,
        "own_row": _own_row(truth, found.target, found.matrix_CP),
    }


def _own_row(truth: GroundTruth, target: str, matrix_CP: AnyArray) -> dict[str, Any] | None:
    """Return decay and dominance of the row of the target's own category; ``None`` if it is not among the rows."""
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


def _verdict(truth: GroundTruth, learned: Sequence[LearnedCorrelation]) -> str:
    sentences = []
    for target in truth.targets:
        own = _own_row(truth, target, truth.of(target))
        pattern = f"decays by {own['decay']:.2f} per position" if own else "is not among the rows"
        scores = [
            f"{found.run} {_numbers(truth, found)['agreement']['pearson']:.2f}"
            for found in learned
            if found.target == target
        ]
        sentences.append(
            f"{target}: the target's own category {pattern}; agreement with the data (Pearson): {', '.join(scores)}."
        )
    return " ".join(sentences)


def _matrix(truth: GroundTruth, matrix_CP: AnyArray) -> Matrix:
    return Matrix(truth.behaviours, [str(p + 1) for p in range(matrix_CP.shape[1])], matrix_CP, "category/position")


def _heat_map(truth: GroundTruth, matrix_CP: AnyArray, target: str, source: str) -> CaptionedFigure:
    figure = plots.heat_map(
        scaled(matrix_CP),
        truth.behaviours,
        [str(p + 1) for p in range(matrix_CP.shape[1])],
        labels=("position before the target", "category of the behaviour"),
        title=f"target category {target}: {source}",
        limits=(0.0, 1.0),
        colours="Blues",
        annotated=True,
    )
    return CaptionedFigure(
        figure, f"Correlation with a target of category {target}, {source}; scaled to the range from 0 to 1."
    )

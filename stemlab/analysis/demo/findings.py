"""Findings of the demonstration."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib
import numpy as np

from stemlab.analysis import plots
from stemlab.analysis.base import CaptionedFigure, Findings, Matrix
from stemlab.analysis.entanglement.conflict import TableDistances

MODELS = ("finish alone", "like alone", "like alone, other seed", "both in one table")
_Numbers = Mapping[str, Any]


def _outcome(numbers: _Numbers) -> str:
    return "found" if numbers["found"] else "not found"


def collapse(numbers: _Numbers) -> Findings:
    """Return the section on collapse."""
    planted, control = numbers["planted"], numbers["control"]
    ranks = np.arange(1, numbers["width"] + 1)
    lines = {f"{name}: rank {numbers[name]['rank']}": (ranks.tolist(), numbers[name]["spectrum"]) for name in _VARIANTS}
    figure = plots.curves(
        lines, labels=("index", "singular value / largest"), title="Spectra after training", marker="o"
    )
    return Findings(
        title="Collapse",
        verdict=(
            f"Collapse {_outcome(numbers)}: Information Abundance fell from {planted['abundance_before']:.1f} to "
            f"{planted['abundance']:.1f} of {numbers['width']} where the affinity has rank {planted['rank']}, and is "
            f"{control['abundance']:.1f} where it has full rank."
        ),
        reading=(
            "User and item embeddings are trained on two datasets. In the first one the affinity matrix has low rank: "
            "only a few embedding directions are used, and the others shrink. Information Abundance, the sum of the "
            "singular values divided by the largest, measures the number of directions in use.",
        ),
        numbers=numbers,
        matrices={
            "spectra": Matrix(_VARIANTS, [str(n) for n in ranks], np.array([numbers[w]["spectrum"] for w in _VARIANTS]))
        },
        figures={"spectra": CaptionedFigure(figure, "Singular values of the user tables, divided by the largest.")},
    )


_VARIANTS = ("planted", "control")


def correlation(numbers: _Numbers, scaled_CP: tuple[Any, Any]) -> Findings:
    """Return the section on correlation.

    Args:
        numbers: results of the planted dataset and its control.
        scaled_CP: scaled (C, P) matrices of the data and of the model.
    """
    planted, control = numbers["planted"], numbers["control"]
    rows = [f"category {number + 1}" for number in range(len(scaled_CP[0]))]
    columns = [str(number + 1) for number in range(scaled_CP[0].shape[1])]
    named = {"counted": ("in the data", scaled_CP[0]), "learnt": ("learned by attention", scaled_CP[1])}
    return Findings(
        title="Feature correlation",
        verdict=(
            f"Correlation {_outcome(numbers)}: data and model agree on the target's own category (Pearson "
            f"{planted['agreement']:.2f}) and on its decay with the position (rates {planted['decay_data']:.2f} and "
            f"{planted['decay_model']:.2f}; without a planted decay {control['decay_data']:.2f} and "
            f"{control['decay_model']:.2f})."
        ),
        reading=(
            "A behaviour of the target's category increases the probability of the label; its effect decreases with "
            "the position (1 is the newest behaviour). The first heat map is the mutual information of behaviour and "
            "label; the second one is the correlation learned by a model with temporal target attention. Targets have "
            "category 1.",
        ),
        numbers=numbers,
        matrices={name: Matrix(rows, columns, values, "behaviour") for name, (_, values) in named.items()},
        figures={
            name: CaptionedFigure(
                plots.heat_map(
                    values,
                    rows,
                    columns,
                    labels=("position", "behaviour"),
                    title=f"Correlation {source}",
                    limits=(0, 1),
                    colours="Blues",
                    annotated=True,
                ),
                f"Correlation of behaviours with a target of category 1, {source}; 1 is the largest.",
            )
            for name, (source, values) in named.items()
        },
    )


def conflict(numbers: _Numbers, shown: Sequence[tuple[TableDistances, Any]]) -> Findings:
    """Return the section on conflict.

    Args:
        numbers: results of the planted dataset and its control.
        shown: distances of each model, with a mask (P,) of the conflicting pairs.
    """
    planted, control = numbers["planted"], numbers["control"]
    return Findings(
        title="Conflict",
        verdict=(
            f"Conflict {_outcome(numbers)}: {planted['share']:.1%} of the pairs are close for finish and far for like "
            f"({control['share']:.1%} if both tasks have the same labels, {planted['seed_noise']:.1%} between two "
            f"seeds); {planted['truly_disputed']:.0%} of them conflict in the true affinities. Retention is "
            f"{planted['kept_by_separate_tables']:.2f} with separate tables and {planted['kept_by_one_table']:.2f} "
            "with one shared table."
        ),
        reading=(
            "In a single-task model, users are close to the items that they like. Pairs that are close in one model "
            "and far in the other are in conflict (dark). One shared table cannot represent both; its retention is at "
            "most 0.5.",
        ),
        numbers=numbers,
        matrices={
            "conflict": Matrix(_VARIANTS, list(planted), np.array([list(numbers[name].values()) for name in _VARIANTS]))
        },
        figures={"distances": _histograms(shown)},
    )


def _histograms(shown: Sequence[tuple[TableDistances, Any]]) -> CaptionedFigure:
    with matplotlib.rc_context(plots.FIGURE_STYLE):
        figure = plots.blank(9.0, 5.0)
        for number, (one, conflict_P) in enumerate(shown):
            axes = figure.add_subplot(2, 2, number + 1)
            dark_N, other_N = one.counts(conflict_P)
            bins = np.arange(len(dark_N))
            axes.bar(bins, dark_N, 1.0, color=plots.colour(0))
            axes.bar(bins, other_N, 1.0, bottom=dark_N, color="0.85")
            axes.set(xlabel="distance bin, near to far", ylabel="pairs")
            axes.set_title(one.label, fontsize=9)
    return CaptionedFigure(
        figure, "Distances of all pairs in four models; pairs in conflict between the single-task models are dark."
    )

"""What the demonstration found, as a page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib
import numpy as np

from stemlab.analysis import plots
from stemlab.analysis.base import Drawing, Findings, Matrix
from stemlab.analysis.entanglement.conflict import Column

MODELS = ("finish alone", "like alone", "like alone, other seed", "both in one table")
Numbers = Mapping[str, Any]


def _said(numbers: Numbers) -> str:
    return "found" if numbers["found"] else "not found"


def collapse(numbers: Numbers) -> Findings:
    """Return the section of the collapsed tables."""
    planted, control = numbers["planted"], numbers["control"]
    ranks = np.arange(1, numbers["width"] + 1)
    lines = {f"{name}: rank {numbers[name]['rank']}": (ranks.tolist(), numbers[name]["spectrum"]) for name in _WORLDS}
    figure = plots.curves(
        lines, labels=("direction", "singular value / largest"), title="Spectra after training", marker="o"
    )
    return Findings(
        title="Collapse",
        verdict=(
            f"Collapse {_said(numbers)}: Information Abundance fell from {planted['abundance_before']:.1f} to "
            f"{planted['abundance']:.1f} of {numbers['width']} where the affinity has rank {planted['rank']}, and is "
            f"{control['abundance']:.1f} where it has full rank."
        ),
        reading=(
            "Two tables of the same width learn who likes what. In the first world all tastes lie in a few directions: "
            "the others get no use and shrink. Information Abundance, the sum of the singular values over the largest, "
            "counts the directions in use.",
        ),
        numbers=numbers,
        matrices={
            "spectra": Matrix(_WORLDS, [str(n) for n in ranks], np.array([numbers[w]["spectrum"] for w in _WORLDS]))
        },
        drawings={"spectra": Drawing(figure, "Singular values of the user tables, the largest as 1.")},
    )


_WORLDS = ("planted", "control")


def correlation(numbers: Numbers, pictures: tuple[Any, Any]) -> Findings:
    """Return the section of the decaying effect of behaviours; pictures: counted and learnt (C, P), scaled."""
    planted, control = numbers["planted"], numbers["control"]
    rows = [f"category {number + 1}" for number in range(len(pictures[0]))]
    columns = [str(number + 1) for number in range(pictures[0].shape[1])]
    named = {"counted": ("in the data", pictures[0]), "learnt": ("learnt by attention", pictures[1])}
    return Findings(
        title="Feature correlation",
        verdict=(
            f"Correlation {_said(numbers)}: data and model agree on the target's own category (Pearson "
            f"{planted['agreement']:.2f}) and on its decay with the position (rates {planted['decay_data']:.2f} and "
            f"{planted['decay_model']:.2f}; without a planted decay {control['decay_data']:.2f} and "
            f"{control['decay_model']:.2f})."
        ),
        reading=(
            "A behaviour of the target's category makes the label likely, the less the older it is (position 1 is the "
            "newest). The first map is the mutual information of behaviour and label, the second what a model with "
            "temporal target attention makes of the behaviour. Targets are of category 1.",
        ),
        numbers=numbers,
        matrices={name: Matrix(rows, columns, values, "behaviour") for name, (_, values) in named.items()},
        drawings={
            name: Drawing(
                plots.heat_map(
                    values,
                    rows,
                    columns,
                    labels=("position", "behaviour"),
                    title=f"Correlation {told}",
                    limits=(0, 1),
                    colours="Blues",
                    annotated=True,
                ),
                f"Correlation of behaviours with a target of category 1, {told}; 1 is the largest.",
            )
            for name, (told, values) in named.items()
        },
    )


def conflict(numbers: Numbers, shown: Sequence[tuple[Column, Any]]) -> Findings:
    """Return the section of the disputed pairs; shown: a column a model, with the pairs (P,) that are disputed."""
    planted, control = numbers["planted"], numbers["control"]
    return Findings(
        title="Conflict",
        verdict=(
            f"Conflict {_said(numbers)}: {planted['share']:.1%} of the pairs are close for finish and far for like "
            f"({control['share']:.1%} where both want the same, {planted['seed_noise']:.1%} between two seeds), "
            f"{planted['truly_disputed']:.0%} of them truly so; separate tables keep "
            f"{planted['kept_by_separate_tables']:.2f} of it, one table {planted['kept_by_one_table']:.2f}."
        ),
        reading=(
            "Models that learn a task alone place users near the items they want. Pairs that are close in one and far "
            "in the other are disputed (dark); one table for both tasks cannot hold both views and keeps at most half.",
        ),
        numbers=numbers,
        matrices={
            "conflict": Matrix(_WORLDS, list(planted), np.array([list(numbers[world].values()) for world in _WORLDS]))
        },
        drawings={"distances": _histograms(shown)},
    )


def _histograms(shown: Sequence[tuple[Column, Any]]) -> Drawing:
    with matplotlib.rc_context(plots.STYLE):
        figure = plots.blank(9.0, 5.0)
        for place, (one, disputed_P) in enumerate(shown):
            axes = figure.add_subplot(2, 2, place + 1)
            dark_N, other_N = one.counts(disputed_P)
            bins = np.arange(len(dark_N))
            axes.bar(bins, dark_N, 1.0, color=plots.colour(0))
            axes.bar(bins, other_N, 1.0, bottom=dark_N, color="0.85")
            axes.set(xlabel="bin of distance, near to far", ylabel="pairs")
            axes.set_title(one.label, fontsize=9)
    return Drawing(figure, "Distances of all pairs in four models; pairs that the single tasks dispute are dark.")

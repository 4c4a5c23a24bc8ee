"""Reliability of probabilities, from saved test scores: observed against predicted rates, normalised entropy.

Legend: B samples, N bins.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from stemlab.array_types import AnyArray, Float64Array
from stemlab.errors import StemlabError
from stemlab.metrics.weighted import weighted_calibration_ratio, weighted_ece, weighted_log_loss
from stemlab.reporting.critical import model_name
from stemlab.reporting.figure_file import FIRST_COLOURS, figure_marks, write_figure
from stemlab.reporting.scores import TaskScores, load_scores
from stemlab.reporting.table import ReportTable

if TYPE_CHECKING:
    from matplotlib.figure import Figure

BINS = 15
COLUMNS = ("model", "seed", "task", "samples", "positive_rate", "logloss", "normalised_entropy", "calibration", "ece")
"""Columns of the table of ``reliabilities``."""


@dataclass(frozen=True)
class Reliability:
    """Calibration of one run on one task.

    Attributes:
        model: name of the row of the report.
        seed: seed of the run.
        task: name of the task.
        samples: number of samples whose label counts.
        positive_rate: (weighted) share of positive labels.
        logloss: mean binary cross-entropy in nats.
        normalised_entropy: ``logloss`` divided by the entropy of ``positive_rate``: below 1 is better than a constant
            prediction of the base rate (He et al. 2014, "Practical lessons from predicting clicks on ads at Facebook",
            section 3).
        calibration: predicted / observed positives.
        ece: expected calibration error.
        predicted_N: mean prediction per bin; bins have about equally many samples.
        observed_N: share of positive labels per bin.
    """

    model: str
    seed: int
    task: str
    samples: int
    positive_rate: float
    logloss: float
    normalised_entropy: float
    calibration: float
    ece: float
    predicted_N: Float64Array
    observed_N: Float64Array

    def cells(self) -> dict[str, str | int | float]:
        """Return name -> value of the columns ``COLUMNS``."""
        return {name: getattr(self, name) for name in COLUMNS}


def normalised_entropy(logloss: float, positive_rate: float) -> float:
    """Return the log loss divided by the entropy of the base rate; NaN if all labels are equal."""
    if not 0 < positive_rate < 1:
        return float("nan")
    return logloss / -(positive_rate * math.log(positive_rate) + (1 - positive_rate) * math.log1p(-positive_rate))


def reliability_curve(labels_B: AnyArray, prob_B: AnyArray, weights_B: AnyArray) -> tuple[Float64Array, Float64Array]:
    """Return mean prediction and share of positives of up to ``BINS`` bins of equally many samples, each (N,).

    Equal predictions share a bin.
    """
    order = np.argsort(prob_B, kind="stable")
    prob, weights = np.asarray(prob_B, np.float64)[order], np.asarray(weights_B, np.float64)[order]
    positive = (np.asarray(labels_B)[order] > 0) * weights
    edges = np.unique(prob[np.arange(BINS) * len(prob) // BINS])
    starts = np.searchsorted(prob, edges)
    total = np.add.reduceat(weights, starts)
    kept = total > 0
    return (np.add.reduceat(prob * weights, starts) / np.where(kept, total, 1))[kept], (
        np.add.reduceat(positive, starts) / np.where(kept, total, 1)
    )[kept]


def reliabilities(table: ReportTable) -> list[Reliability]:
    """Return the calibration of every run of a table on each of its binary tasks with labels that count.

    Raises:
        StemlabError: a run has no saved test scores, or no run has such a task.
    """
    found = []
    for row in table.rows:
        for run in sorted(row.runs, key=lambda run: int(run.config["seed"])):
            scores = load_scores(run.path)
            if not isinstance(scores, TaskScores):
                raise StemlabError(
                    f"reliability: {run.path.parent} ranks items; only probabilities of tasks are calibrated."
                )
            tasks = [task for task in scores.tasks if task not in scores.regression and scores.counts(task).any()]
            found += [measure_reliability(scores, task, model_name(row), int(run.config["seed"])) for task in tasks]
    if not found:
        raise StemlabError("reliability: the runs have no binary task with labels that count.")
    return found


def measure_reliability(scores: TaskScores, task: str, model: str, seed: int) -> Reliability:
    """Return the calibration of a task on the samples whose label counts; there must be one."""
    kept = scores.counts(task)
    labels, prob = scores.labels(task)[kept], scores.prob(task)[kept]
    weights = np.ones(len(labels)) if scores.weight_B is None else scores.weight_B[kept].astype(np.float64)
    rate = float(weights[labels > 0].sum() / weights.sum()) if weights.sum() > 0 else float("nan")
    loss = weighted_log_loss(labels, prob, weights)
    return Reliability(
        *(model, seed, task, len(labels), rate, loss, normalised_entropy(loss, rate)),
        *(weighted_calibration_ratio(labels, prob, weights), weighted_ece(labels, prob, weights)),
        *reliability_curve(labels, prob, weights),
    )


def draw_reliability(found: Sequence[Reliability], path: Path, sample: bool, limited: bool) -> list[Path]:
    """Write observed against predicted rates, one panel per task and one line per run, as PNG and SVG.

    Both axes are logarithmic, because rates of rare tasks are far below one; bins without a positive sample are left
    out.

    Args:
        found: calibrations.
        path: path without suffix.
        sample: whether the data are synthetic.
        limited: whether runs used a part of the batches only.
    """
    tasks, models = list(dict.fromkeys(one.task for one in found)), list(dict.fromkeys(one.model for one in found))

    def draw(figure: Figure) -> None:
        every = figure.subplots(1, len(tasks), squeeze=False)[0]
        for axes, task in zip(every, tasks, strict=True):
            for one in (one for one in found if one.task == task):
                kept = (one.observed_N > 0) & (one.predicted_N > 0)
                first = one.seed == min(other.seed for other in found if other.model == one.model)
                colour = FIRST_COLOURS[models.index(one.model) % len(FIRST_COLOURS)]
                label = one.model if first else None
                axes.plot(
                    one.predicted_N[kept],
                    one.observed_N[kept],
                    "o-",
                    color=colour,
                    markersize=3,
                    linewidth=0.8,
                    label=label,
                )
            axes.axline((0.1, 0.1), (0.5, 0.5), color="grey", linewidth=0.8, linestyle="--")
            axes.set(xscale="log", yscale="log", title=task, xlabel="mean prediction")
        every[0].set_ylabel("observed rate")
        every[-1].legend(fontsize=7)
        figure.suptitle(f"{figure_marks(sample, limited)}{BINS} bins of equally many test samples", fontsize=8)

    return write_figure(path, (3.2 * len(tasks) + 0.6, 3.4), draw)

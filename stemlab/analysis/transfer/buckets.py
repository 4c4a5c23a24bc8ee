"""Test samples by the relative amount of positive feedback of their user or item (spec/stem.md section 7).

r = log(((c_A + 1)/(N_A + 1)) / ((c_B + 1)/(N_B + 1))) with an entity's training positives c and all training positives
N of two tasks: negative where task B dominates, positive where A does. Without N (``normalised`` off) base rates count.

Legend: R training rows, V entities, B test samples, G groups (users) that are drawn again.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from stemlab.array_types import AnyArray, BoolArray, Float64Array, Int64Array

COLD = -1
"""Bucket of samples whose entity has no training row of its own."""


def relative_feedback(positives_VT: AnyArray, normalised: bool) -> Float64Array:
    """Return (V,) relative amounts.

    Args:
        positives_VT: training positives of every entity for task A and task B.
        normalised: whether each task's positives are shares of all of its positives.
    """
    amount_VT = positives_VT.astype(np.float64) + 1
    if normalised:
        amount_VT /= positives_VT.sum(axis=0) + 1
    return np.asarray(np.log(amount_VT[:, 0] / amount_VT[:, 1]))


def positives_by_entity(ids_R: AnyArray, labels_RT: AnyArray, entities: int) -> tuple[AnyArray, AnyArray]:
    """Return (V, T) training positives and (V,) training rows of every entity, reading rows in blocks."""
    tasks = labels_RT.shape[1]
    positives_VT, rows_V = np.zeros((entities, tasks), dtype=np.int64), np.zeros(entities, dtype=np.int64)
    for start in range(0, len(ids_R), 1 << 20):
        ids_B, labels_BT = ids_R[start : start + (1 << 20)], labels_RT[start : start + (1 << 20)]
        rows_V += np.bincount(ids_B, minlength=entities)
        for task in range(tasks):
            positives_VT[:, task] += np.bincount(ids_B[labels_BT[:, task] > 0], minlength=entities)
    return positives_VT, rows_V


@dataclass(frozen=True)
class Buckets:
    """Where every test sample belongs.

    Attributes:
        bucket_B: (B,) number of its bucket, ``COLD`` for entities without training rows.
        bounds: (buckets + 1,) limits of r; ties at a limit belong to the lower bucket.
        comparable: number of the bucket whose samples have the most similar feedback (smallest mean of abs(r)).
    """

    bucket_B: Int64Array
    bounds: Float64Array
    comparable: int


def quantile_buckets(r_B: Float64Array, known_B: BoolArray, count: int) -> Buckets:
    """Return buckets of about equal numbers of samples.

    Args:
        r_B: relative amounts of the samples' entities.
        known_B: whether the entity has training rows.
        count: number of buckets; fewer where many samples share one amount.
    """
    bounds = np.unique(np.quantile(r_B[known_B], np.linspace(0, 1, count + 1)))
    return _buckets(r_B, known_B, bounds)


def threshold_buckets(r_B: Float64Array, known_B: BoolArray, tau: float) -> Buckets:
    """Return three buckets: r below -tau, from -tau to tau (comparable), above tau."""
    low, high = float(r_B[known_B].min()), float(r_B[known_B].max())
    bounds = np.array([min(low, -tau) - 1e-9, np.nextafter(-tau, -np.inf), tau, max(high, tau) + 1e-9])
    return _buckets(r_B, known_B, bounds)


def _buckets(r_B: Float64Array, known_B: BoolArray, bounds: Float64Array) -> Buckets:
    last = max(len(bounds) - 2, 0)
    bucket_B = (np.searchsorted(bounds, r_B) - 1).clip(0, last)
    bucket_B[~known_B] = COLD
    means = [
        np.abs(r_B[bucket_B == number]).mean() if (bucket_B == number).any() else np.inf for number in range(last + 1)
    ]
    return Buckets(bucket_B, bounds, int(np.argmin(means)))


class WeightedAUC:
    """The AUC of one set of scores under many weightings of its rows: sorted once.

    Args:
        labels_B: 0 or 1.
        scores_B: higher for more likely.
    """

    def __init__(self, labels_B: AnyArray, scores_B: AnyArray) -> None:
        self._order = np.argsort(scores_B, kind="stable")
        self._positive_B = labels_B[self._order] > 0
        ordered = scores_B[self._order]
        self._first = np.flatnonzero(np.concatenate(([True], ordered[1:] != ordered[:-1])))

    def __call__(self, weight_B: AnyArray | None = None) -> float:
        """Return the AUC with (B,) weights of the rows (of all alike); nan if a class has no weight."""
        ordered = np.ones(len(self._order)) if weight_B is None else weight_B[self._order]
        positive = np.add.reduceat(np.where(self._positive_B, ordered, 0.0), self._first)
        negative = np.add.reduceat(np.where(self._positive_B, 0.0, ordered), self._first)
        total = positive.sum() * negative.sum()
        if total <= 0:
            return float("nan")
        below = np.cumsum(negative) - negative
        return float((positive * (below + 0.5 * negative)).sum() / total)


def bootstrap_differences(
    labels_B: AnyArray, scores_B: AnyArray, others: Sequence[AnyArray], group_B: AnyArray, resamples: int, seed: int
) -> Float64Array:
    """Return (others, resamples) differences of AUC to ``scores_B`` when groups are drawn again with replacement.

    All scores see the same draws, so differences are paired.

    Args:
        labels_B: labels.
        scores_B: scores of the baseline.
        others: scores of the other models.
        group_B: whose rows are drawn together (users).
        resamples: number of draws.
        seed: of the draws.
    """
    code_B = np.unique(group_B, return_inverse=True)[1]
    groups = int(code_B.max()) + 1
    measures = [WeightedAUC(labels_B, scores) for scores in (scores_B, *others)]
    rng = np.random.default_rng(seed)
    found = np.empty((len(others), resamples))
    for draw in range(resamples):
        times_G = np.bincount(rng.integers(0, groups, groups), minlength=groups)
        weight_B = times_G[code_B].astype(np.float64)
        base, *rest = (measure(weight_B) for measure in measures)
        found[:, draw] = np.array(rest) - base
    return found

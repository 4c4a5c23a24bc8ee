"""Buckets of test samples by relative positive feedback of their user or item.

r = log(((c_A + 1)/(N_A + 1)) / ((c_B + 1)/(N_B + 1))), where c is the number of training positives of the entity and N
the number of all training positives, for tasks A and B (docs/methods/recscope.md#comparable-samples). r is negative
where task B dominates and positive where task A dominates. With ``normalised=False``, N is left out.

Legend: R training samples, V entities, B test samples, G bootstrap groups (users).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from stemlab.array_types import AnyArray, BoolArray, Float64Array, Int64Array
from stemlab.types import MISSING_GROUP

COLD = -1
"""Bucket of samples whose entity has no training sample."""


def relative_feedback(positives_VT: AnyArray, normalised: bool) -> Float64Array:
    """Return (V,) relative feedback r.

    Args:
        positives_VT: (V, 2) training positives of every entity for task A and task B.
        normalised: whether the positives of each task are divided by the number of all positives of the task.
    """
    amount_VT = positives_VT.astype(np.float64) + 1
    if normalised:
        amount_VT /= positives_VT.sum(axis=0) + 1
    return np.asarray(np.log(amount_VT[:, 0] / amount_VT[:, 1]))


def positives_by_entity(ids_R: AnyArray, labels_RT: AnyArray, entities: int) -> tuple[AnyArray, AnyArray]:
    """Return (V, T) training positives and (V,) training samples of every entity; samples are read in blocks."""
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
    """Buckets of the test samples.

    Attributes:
        bucket_B: (B,) bucket of each sample; ``COLD`` for entities without training samples.
        bounds: (buckets + 1,) limits of r; a value equal to a limit belongs to the lower bucket.
        comparable: bucket with the most similar feedback for both tasks (smallest mean of abs(r)).
    """

    bucket_B: Int64Array
    bounds: Float64Array
    comparable: int


def quantile_buckets(r_B: Float64Array, known_B: BoolArray, count: int) -> Buckets:
    """Return buckets with about equal numbers of samples.

    Args:
        r_B: relative feedback of the entity of each sample.
        known_B: whether the entity has training samples.
        count: number of buckets; the result has fewer if many samples share one value.
    """
    bounds = np.unique(np.quantile(r_B[known_B], np.linspace(0, 1, count + 1)))
    return _buckets(r_B, known_B, bounds)


def threshold_buckets(r_B: Float64Array, known_B: BoolArray, tau: float) -> Buckets:
    """Return three buckets: r below -tau, r from -tau to tau (comparable), r above tau."""
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
    """AUC of one set of scores for many sample weights; the scores are sorted once.

    Args:
        labels_B: labels, 0 or 1.
        scores_B: scores, higher for likelier samples.
    """

    def __init__(self, labels_B: AnyArray, scores_B: AnyArray) -> None:
        self._order = np.argsort(scores_B, kind="stable")
        self._positive_B = labels_B[self._order] > 0
        ordered = scores_B[self._order]
        self._first = np.flatnonzero(np.concatenate(([True], ordered[1:] != ordered[:-1])))

    def __call__(self, weight_B: AnyArray | None = None) -> float:
        """Return the AUC with (B,) sample weights, or unweighted; NaN if a class has zero weight."""
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
    """Return (others, resamples) paired AUC differences to ``scores_B`` in a bootstrap over groups.

    All models use the same resamples, so the differences are paired.

    Args:
        labels_B: labels.
        scores_B: scores of the baseline.
        others: scores of the other models.
        group_B: group (user) of each sample; groups are resampled with replacement. A sample without a group is one.
        resamples: number of resamples.
        seed: seed of the resampling.
    """
    key_B = np.array(group_B, dtype=np.int64)
    missing_B = key_B == MISSING_GROUP
    key_B[missing_B] += np.arange(missing_B.sum())
    code_B = np.unique(key_B, return_inverse=True)[1]
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


def bootstrap_interval(differences: AnyArray, confidence: float) -> tuple[float, float]:
    """Return the percentile interval of bootstrap differences; resamples with NaN are ignored, NaN if all are NaN.

    Args:
        differences: (resamples,) differences.
        confidence: confidence level, such as 0.95.
    """
    if np.isnan(differences).all():
        return float("nan"), float("nan")
    tail = (1 - confidence) / 2
    low, high = np.nanquantile(differences, [tail, 1 - tail])
    return float(low), float(high)

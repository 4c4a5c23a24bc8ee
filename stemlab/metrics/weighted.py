"""Metrics of binary predictions with sample weights (docs/methods/metrics.md#weights).

A sample of weight w counts like w equal samples; samples of weight 0 do not count. Samples are sorted by all their
values before anything is summed, so that no result depends on their order or on the world size. With equal weights, the
values are those of ``stemlab.metrics.auc`` and ``stemlab.metrics.calibration`` up to rounding.

Legend: B samples, G groups, R runs of samples with equal group and score.
"""

from __future__ import annotations

import numpy as np

from stemlab.array_types import AnyArray, BoolArray
from stemlab.metrics.calibration import CLIP
from stemlab.types import MISSING_GROUP


def weighted_auc(labels: AnyArray, scores: AnyArray, weights: AnyArray) -> float:
    """Return the AUC: the share of the weight of (positive, negative) pairs in the right order, ties count half.

    The weight of a pair is the product of the weights of its samples.

    Args:
        labels: (B,) values 0 or 1.
        scores: (B,) scores; higher means more likely positive.
        weights: (B,) weights, at least 0.

    Returns:
        The AUC; NaN if the weight of a class is 0, or with a NaN score.
    """
    return weighted_gauc(labels, scores, weights, np.zeros(len(labels), dtype=np.int64))


def weighted_gauc(labels: AnyArray, scores: AnyArray, weights: AnyArray, groups: AnyArray) -> float:
    """Return the mean of the groups' AUCs, weighted by the sums of their sample weights.

    Args:
        labels: (B,) values 0 or 1.
        scores: (B,) scores.
        weights: (B,) weights, at least 0.
        groups: (B,) integer group keys; samples with ``MISSING_GROUP`` are left out.

    Returns:
        The mean over groups with both classes; NaN without such groups or with a NaN score.
    """
    counted = (weights > 0) & (groups != MISSING_GROUP)
    if not counted.any() or np.isnan(scores).any():
        return float("nan")
    positive, scores, groups = (np.asarray(labels) > 0)[counted], scores[counted], groups[counted]
    weights = weights[counted].astype(np.float64)
    order = np.lexsort((weights, positive, scores, groups))
    positive, scores, groups, weights = positive[order], scores[order], groups[order], weights[order]
    start_R = _starts((groups[1:] != groups[:-1]) | (scores[1:] != scores[:-1]))
    positive_R = np.add.reduceat(np.where(positive, weights, 0.0), start_R)
    negative_R = np.add.reduceat(np.where(positive, 0.0, weights), start_R)
    group_R = groups[start_R]
    start_G = _starts(group_R[1:] != group_R[:-1])
    total_R = np.cumsum(negative_R) - negative_R  # negatives before the run, of all groups
    before_R = total_R - np.repeat(total_R[start_G], np.diff(start_G, append=len(group_R)))
    wins_G = np.add.reduceat(positive_R * (before_R + negative_R / 2), start_G)
    positive_G, negative_G = np.add.reduceat(positive_R, start_G), np.add.reduceat(negative_R, start_G)
    both_G = (positive_G > 0) & (negative_G > 0)
    if not both_G.any():
        return float("nan")
    auc_G = wins_G[both_G] / (positive_G[both_G] * negative_G[both_G])
    return float(np.average(auc_G, weights=(positive_G + negative_G)[both_G]))


def weighted_log_loss(labels: AnyArray, prob: AnyArray, weights: AnyArray) -> float:
    """Return the weighted mean binary cross-entropy in nats; NaN if the weights are 0 or a probability is NaN."""
    if _unusable(prob, weights):
        return float("nan")
    clipped = np.clip(prob.astype(np.float64), CLIP, 1 - CLIP)
    loss = -np.log(np.where(np.asarray(labels) > 0, clipped, 1 - clipped))
    return ordered_sum(weights * loss) / ordered_sum(weights)


def weighted_calibration_ratio(labels: AnyArray, prob: AnyArray, weights: AnyArray) -> float:
    """Return the weighted sum of predictions / of positives; NaN if the positives have the weight 0."""
    positives = ordered_sum(weights[np.asarray(labels) > 0])
    return float("nan") if positives == 0 or _unusable(prob, weights) else ordered_sum(weights * prob) / positives


def weighted_ece(labels: AnyArray, prob: AnyArray, weights: AnyArray, bins: int = 15) -> float:
    """Return the expected calibration error over bins of about equal weight (``calibration.ece``).

    Bin b begins with the first prediction at which the cumulative weight exceeds b / bins of the whole; equal
    predictions share a bin.
    """
    counted = weights > 0
    prob, weights, positive = prob[counted], weights[counted], (np.asarray(labels) > 0)[counted]
    if _unusable(prob, weights):
        return float("nan")
    prob, weights = prob.astype(np.float64), weights.astype(np.float64)
    order = np.lexsort((weights, positive, prob))
    prob, weights, positive = prob[order], weights[order], positive[order]
    cumulative = np.cumsum(weights)
    first = np.searchsorted(cumulative, np.arange(bins) * cumulative[-1] / bins, side="right")
    starts = np.searchsorted(prob, np.unique(prob[np.minimum(first, len(prob) - 1)]))
    gap = np.add.reduceat(weights * positive, starts) - np.add.reduceat(weights * prob, starts)
    return float(np.abs(gap).sum() / cumulative[-1])


def ordered_sum(values: AnyArray) -> float:
    """Return the sum of values in float64, independent of their order."""
    return float(np.sort(np.asarray(values, dtype=np.float64)).sum())


def _unusable(prob: AnyArray, weights: AnyArray) -> bool:
    return not (weights > 0).any() or bool(np.isnan(prob).any())


def _starts(changes: BoolArray) -> AnyArray:
    """Return the index of the first element of each run, from where an element differs from the one before."""
    return np.flatnonzero(np.concatenate(([True], changes)))

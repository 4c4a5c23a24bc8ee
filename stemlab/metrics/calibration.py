"""Calibration metrics: log loss, ratio of predicted to observed positives, expected calibration error.

Sums use integers, so that the result does not depend on the order of the samples and is bit-identical for every world
size.
"""

from __future__ import annotations

import numpy as np

from stemlab.array_types import AnyArray

CLIP = 1e-7
"""The log loss clips probabilities to [CLIP, 1 - CLIP] in float64, as the released code does."""

PART_BITS = 30
"""Bits of each of the two integers that represent a term of an exact sum."""


def log_loss(labels: AnyArray, prob: AnyArray) -> float:
    """Return the mean binary cross-entropy in nats.

    Args:
        labels: (B,) values 0 or 1.
        prob: (B,) probabilities of label 1.

    Returns:
        The log loss; NaN without samples or with a NaN probability.
    """
    if _unusable(prob):
        return float("nan")
    clipped = np.clip(np.asarray(prob, dtype=np.float64), CLIP, 1 - CLIP)
    return exact_sum(-np.log(np.where(np.asarray(labels) > 0, clipped, 1 - clipped))) / len(clipped)


def calibration_ratio(labels: AnyArray, prob: AnyArray) -> float:
    """Return predicted / observed positives: 1 is calibrated, 2 predicts twice as many; NaN without positives."""
    positives = int(np.sum(np.asarray(labels) > 0))
    return float("nan") if positives == 0 or _unusable(prob) else exact_sum(prob) / positives


def ece(labels: AnyArray, prob: AnyArray, bins: int = 15) -> float:
    """Return the expected calibration error (docs/methods/metrics.md#expected-calibration-error).

    The mean over samples of |observed rate - mean prediction| in the bin of the sample. Bins have equally many samples
    (quantiles of the prediction; equal predictions share a bin): with rates near one percent, bins of equal width
    would put nearly all samples into the first bin.

    Args:
        labels: (B,) values 0 or 1.
        prob: (B,) probabilities.
        bins: maximum number of bins.

    Returns:
        The error in [0, 1]; NaN without samples or with a NaN probability.
    """
    if _unusable(prob):
        return float("nan")
    prob = np.asarray(prob, dtype=np.float64)
    order = np.argsort(prob)
    prob, positive = prob[order], (np.asarray(labels) > 0)[order].astype(np.int64)
    edges = np.unique(prob[np.arange(bins) * len(prob) // bins])
    starts = np.searchsorted(prob, edges)  # first sample of each bin; the first edge is the minimum
    gap = np.add.reduceat(positive, starts) - np.add.reduceat(prob, starts)
    return float(np.abs(gap).sum() / len(prob))


def exact_sum(values: AnyArray) -> float:
    """Return the sum of values in [0, 2^10), independent of their order; each value is rounded down to 2^-60.

    Each value is split into two integers in units of 2^-30 and 2^-60; integers add without rounding.
    """
    scaled = np.asarray(values, dtype=np.float64) * 2.0**PART_BITS
    whole = np.floor(scaled)
    rest = np.floor((scaled - whole) * 2.0**PART_BITS)
    units = (int(whole.astype(np.int64).sum()) << PART_BITS) + int(rest.astype(np.int64).sum())
    return units / (1 << 2 * PART_BITS)


def _unusable(prob: AnyArray) -> bool:
    """Return whether there are no probabilities, or one is NaN."""
    return len(prob) == 0 or bool(np.isnan(prob).any())

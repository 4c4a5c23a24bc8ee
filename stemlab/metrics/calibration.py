"""How far predicted probabilities can be taken at their word: log loss, predicted/observed ratio, calibration error.

Sums are taken in whole numbers, so that the results do not depend on the order of the rows: any number of ranks gives
the same last digit.
"""

from __future__ import annotations

import numpy as np

from stemlab.array_types import AnyArray

CLIP = 1e-7
"""Probabilities are clipped to [CLIP, 1 - CLIP] in the log loss, in float64 (published convention)."""

_PART = 30
"""Bits of each of the two whole numbers that hold a term of an exact sum."""


def log_loss(labels: AnyArray, prob: AnyArray) -> float:
    """Return the mean binary cross-entropy in nats.

    Args:
        labels: (B,) values 0 or 1.
        prob: (B,) probabilities of label 1.

    Returns:
        The log loss, or nan without rows or where a probability is not a number.
    """
    if _unusable(prob):
        return float("nan")
    clipped = np.clip(np.asarray(prob, dtype=np.float64), CLIP, 1 - CLIP)
    return exact_sum(-np.log(np.where(np.asarray(labels) > 0, clipped, 1 - clipped))) / len(clipped)


def calibration_ratio(labels: AnyArray, prob: AnyArray) -> float:
    """Return predicted / observed positives: 1 is right, 2 predicts twice as many as there are (nan without any)."""
    positives = int(np.sum(np.asarray(labels) > 0))
    return float("nan") if positives == 0 or _unusable(prob) else exact_sum(prob) / positives


def ece(labels: AnyArray, prob: AnyArray, bins: int = 15) -> float:
    """Return the expected calibration error: the mean over rows of |observed rate - mean prediction| in the row's bin.

    Bins hold equally many rows (split at quantiles of the prediction; rows with the same prediction stay together):
    with rates near one percent, bins of equal width would put nearly every row in the first.

    Args:
        labels: (B,) values 0 or 1.
        prob: (B,) probabilities.
        bins: most bins.

    Returns:
        The error in [0, 1], or nan without rows or where a probability is not a number.
    """
    if _unusable(prob):
        return float("nan")
    prob = np.asarray(prob, dtype=np.float64)
    order = np.argsort(prob)
    prob, positive = prob[order], (np.asarray(labels) > 0)[order].astype(np.int64)
    edges = np.unique(prob[np.arange(bins) * len(prob) // bins])
    starts = np.searchsorted(prob, edges)  # first row of each bin; the first edge is the least prediction
    gap = np.add.reduceat(positive, starts) - np.add.reduceat(prob, starts)
    return float(np.abs(gap).sum() / len(prob))


def exact_sum(values: AnyArray) -> float:
    """Return the sum of values in [0, 2^10), the same for every order of them (each taken to within 2^-60).

    Each value is split into two whole numbers of units 2^-30 and 2^-60; whole numbers add without rounding.
    """
    scaled = np.asarray(values, dtype=np.float64) * 2.0**_PART
    whole = np.floor(scaled)
    rest = np.floor((scaled - whole) * 2.0**_PART)
    units = (int(whole.astype(np.int64).sum()) << _PART) + int(rest.astype(np.int64).sum())
    return units / (1 << 2 * _PART)


def _unusable(prob: AnyArray) -> bool:
    return len(prob) == 0 or bool(np.isnan(prob).any())

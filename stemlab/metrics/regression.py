"""Metrics of regression predictions: RMSE, MAE, and XAUC, the share of pairs in the right order.

Source: docs/methods/metrics.md#regression. Samples are sorted before anything is summed, so that no result depends on
their order or on the world size.

Legend: B samples, K distinct predictions.
"""

from __future__ import annotations

import math

import numpy as np

from stemlab.array_types import AnyArray, Int64Array
from stemlab.metrics.weighted import ordered_sum


def rmse(labels: AnyArray, values: AnyArray, weights: AnyArray | None = None) -> float:
    """Return the root of the (weighted) mean squared error, in the unit of the label.

    Args:
        labels: (B,) labels.
        values: (B,) predictions.
        weights: (B,) weights, at least 0; ``None``: all are 1.

    Returns:
        The error; NaN without samples, with weights of sum 0, or with a NaN prediction.
    """
    return math.sqrt(_mean((_errors(labels, values)) ** 2, weights))


def mae(labels: AnyArray, values: AnyArray, weights: AnyArray | None = None) -> float:
    """Return the (weighted) mean absolute error, in the unit of the label; arguments as for ``rmse``."""
    return _mean(np.abs(_errors(labels, values)), weights)


def xauc(labels: AnyArray, values: AnyArray, weights: AnyArray | None = None) -> float:
    """Return the share of the pairs of different labels that the predictions order as the labels; ties count half.

    Zhan et al., "Deconfounding Duration Bias in Watch-time Prediction", KDD 2022. With labels 0 and 1 it is the AUC.
    O(B log K); exact without weights. The weight of a pair is the product of the weights of its samples.

    Args:
        labels: (B,) labels.
        values: (B,) predictions.
        weights: (B,) weights, at least 0; ``None``: all are 1.

    Returns:
        A value in [0, 1]; NaN if all labels are equal, or with a NaN prediction.
    """
    if np.isnan(values).any():
        return float("nan")
    if weights is not None:
        counted = weights > 0
        labels, values, weights = labels[counted], values[counted], weights[counted].astype(np.float64)
    if len(labels) == 0:
        return float("nan")
    mass = np.ones(len(labels), dtype=np.int64) if weights is None else weights
    rank = np.unique(values, return_inverse=True)[1].astype(np.int64)
    label = np.unique(labels, return_inverse=True)[1].astype(np.int64)
    order = np.lexsort((mass, -rank, label))  # equal labels by falling rank: none of their pairs is counted
    rank, label, mass = rank[order], label[order], mass[order]
    pairs = _pairs_within(np.zeros_like(label), mass) - _pairs_within(label, mass)
    tied = _pairs_within(rank, mass) - _pairs_within(rank * (int(label[-1]) + 1) + label, mass)
    if pairs <= 0:
        return float("nan")
    return float((2 * _rising_pairs(rank, mass) + tied) / (2 * pairs))


def _errors(labels: AnyArray, values: AnyArray) -> AnyArray:
    return np.asarray(values, dtype=np.float64) - np.asarray(labels, dtype=np.float64)


def _mean(errors: AnyArray, weights: AnyArray | None) -> float:
    if len(errors) == 0 or np.isnan(errors).any():
        return float("nan")
    if weights is None:
        return ordered_sum(errors) / len(errors)
    total = ordered_sum(weights)
    return ordered_sum(weights * errors) / total if total else float("nan")


def _pairs_within(keys: Int64Array, mass: AnyArray) -> int | float:
    """Return the sum of the products of the masses of two samples, over all pairs with equal keys."""
    order = np.lexsort((mass, keys))
    keys, mass = keys[order], mass[order]
    starts = np.flatnonzero(np.concatenate(([True], keys[1:] != keys[:-1])))
    whole, own = np.add.reduceat(mass, starts), np.add.reduceat(mass * mass, starts)
    twice: int | float = (whole * whole - own).sum().item()
    return twice / 2 if isinstance(twice, float) else twice // 2


def _rising_pairs(rank: Int64Array, mass: AnyArray) -> int | float:
    """Return the sum of the products of the masses over all pairs i < j with ``rank[i] < rank[j]``.

    From the highest bit down, samples are grouped by the higher bits of their rank, in their order: a pair is counted
    at the first bit in which its ranks differ.

    Args:
        rank: (B,) ranks 0 to K - 1, each of which occurs.
        mass: (B,) int64 or float64.
    """
    count_K = np.concatenate(([0], np.cumsum(np.bincount(rank))))  # samples below each rank
    position, start, total = np.arange(len(rank)), np.zeros(len(rank), dtype=np.int64), mass[:0].sum()
    for bit in reversed(range(int(rank.max()).bit_length())):
        upper = (rank >> bit & 1).astype(bool)
        lower_mass = np.concatenate(([mass.dtype.type(0)], np.cumsum(np.where(upper, mass.dtype.type(0), mass))))
        total += (mass * (lower_mass[:-1] - lower_mass[start]))[upper].sum()
        lower_count = np.concatenate(([0], np.cumsum(~upper)))
        lower = lower_count[:-1] - lower_count[start]
        first = count_K[rank >> bit << bit]
        target = first + np.where(upper, position - start - lower, lower)
        moved = np.empty_like(rank), np.empty_like(mass), np.empty_like(start)
        for new, old in zip(moved, (rank, mass, first), strict=True):
            new[target] = old
        rank, mass, start = moved
    found: int | float = total.item()
    return found

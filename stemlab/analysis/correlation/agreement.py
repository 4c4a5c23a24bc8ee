"""Agreement of two matrices, and the decay rate of a row (docs/methods/recscope.md#correlation-agreement)."""

from __future__ import annotations

import numpy as np
import pandas as pd

from stemlab.array_types import AnyArray


def pearson(one: AnyArray, other: AnyArray) -> float:
    """Return Pearson's correlation over all cells; NaN if one matrix is constant."""
    one, other = np.ravel(one), np.ravel(other)
    if len(one) < 2 or np.ptp(one) == 0 or np.ptp(other) == 0:
        return float("nan")
    return float(np.corrcoef(one, other)[0, 1])


def spearman(one: AnyArray, other: AnyArray) -> float:
    """Return Spearman's rank correlation over all cells; ties get their mean rank."""
    return pearson(average_ranks(one), average_ranks(other))


def average_ranks(values: AnyArray) -> AnyArray:
    """Return the rank of every cell as a flat array, from 1; ties get their mean rank."""
    return np.asarray(pd.Series(np.ravel(values)).rank().to_numpy())


def cosine_similarity(one: AnyArray, other: AnyArray) -> float:
    """Return the cosine similarity of the flattened matrices; NaN if one is all zeros."""
    one, other = np.ravel(one), np.ravel(other)
    lengths = float(np.linalg.norm(one) * np.linalg.norm(other))
    return float(one @ other / lengths) if lengths > 0 else float("nan")


def agreement(one: AnyArray, other: AnyArray) -> dict[str, float]:
    """Return ``pearson``, ``spearman`` and ``cosine`` of two matrices of equal shape."""
    return {
        name: score(one, other)
        for name, score in (("pearson", pearson), ("spearman", spearman), ("cosine", cosine_similarity))
    }


def decay(row: AnyArray) -> tuple[float, float]:
    """Return (a, b) of the least-squares fit a exp(-b p) to values at p = 1, 2, ...

    b is found by grid search between -2 (growing) and 10, with three refinements; a has a closed form given b.
    """
    position = np.arange(1, len(row) + 1)
    low, high = -2.0, 10.0
    best = 0.0
    for _ in range(4):
        rates = np.linspace(low, high, 401)
        curves = np.exp(-np.outer(rates, position))
        factors = curves @ row / (curves**2).sum(1)
        errors = ((factors[:, None] * curves - row) ** 2).sum(1)
        best = float(rates[errors.argmin()])
        step = rates[1] - rates[0]
        low, high = best - step, best + step
    curve = np.exp(-best * position)
    return float(curve @ row / (curve @ curve)), best

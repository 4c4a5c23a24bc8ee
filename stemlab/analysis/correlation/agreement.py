"""How well two matrices of the same cells agree, and how fast a row decays."""

from __future__ import annotations

import numpy as np
import pandas as pd

from stemlab.array_types import AnyArray


def pearson(one: AnyArray, other: AnyArray) -> float:
    """Return the correlation of all cells; nan where one of them is constant."""
    one, other = np.ravel(one), np.ravel(other)
    if len(one) < 2 or np.ptp(one) == 0 or np.ptp(other) == 0:
        return float("nan")
    return float(np.corrcoef(one, other)[0, 1])


def spearman(one: AnyArray, other: AnyArray) -> float:
    """Return the correlation of ranks; ties have their mean rank."""
    return pearson(ranks(one), ranks(other))


def ranks(values: AnyArray) -> AnyArray:
    """Return the rank of every cell, from 1; ties have their mean rank."""
    return np.asarray(pd.Series(np.ravel(values)).rank().to_numpy())


def cosine(one: AnyArray, other: AnyArray) -> float:
    """Return the cosine of the matrices as vectors; nan for zeros."""
    one, other = np.ravel(one), np.ravel(other)
    lengths = float(np.linalg.norm(one) * np.linalg.norm(other))
    return float(one @ other / lengths) if lengths > 0 else float("nan")


def agreement(one: AnyArray, other: AnyArray) -> dict[str, float]:
    """Return all three."""
    return {
        name: score(one, other) for name, score in (("pearson", pearson), ("spearman", spearman), ("cosine", cosine))
    }


def decay(row: AnyArray) -> tuple[float, float]:
    """Return (a, b) of the least-squares fit a exp(-b p) to values at p = 1, 2, ...

    b is searched between -2 (growing) and 10, three times finer each time; a follows from b.
    """
    place = np.arange(1, len(row) + 1)
    low, high = -2.0, 10.0
    best = 0.0
    for _ in range(4):
        rates = np.linspace(low, high, 401)
        curves = np.exp(-np.outer(rates, place))
        factors = curves @ row / (curves**2).sum(1)
        errors = ((factors[:, None] * curves - row) ** 2).sum(1)
        best = float(rates[errors.argmin()])
        step = rates[1] - rates[0]
        low, high = best - step, best + step
    curve = np.exp(-best * place)
    return float(curve @ row / (curve @ curve)), best

"""Pairs that are close for one task and far for another, and where they lie in other models' distances.

The released notebook of arXiv 2403.00793; spec/recscope.md section 4. Retention is this project's summary of it.

Legend: P pairs, N bins.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from stemlab.analysis.entanglement.quantiles import percentiles
from stemlab.array_types import AnyArray, BoolArray, UInt8Array

_BLOCK = 1 << 20


@dataclass(frozen=True)
class Column:
    """One distance of all pairs: of a single-task model, or of one table of a joint one.

    Attributes:
        label: its name in tables and figures.
        run: label of the run.
        task: the task whose view it is; empty for a table that serves none alone.
        distance_P: (P,) distances.
        low: value below which the closest pairs lie (40th percentile), inclusive.
        high: value above which the farthest lie (60th percentile), exclusive.
        edges: (N + 1,) bounds of equal-width bins, the first one a little below the smallest distance.
        bin_P: (P,) bin of every pair; N where it is in none (rounded bounds only).
    """

    label: str
    run: str
    task: str
    distance_P: AnyArray
    low: float
    high: float
    edges: AnyArray
    bin_P: UInt8Array

    def near(self) -> BoolArray:
        """Pairs that are close here."""
        return np.asarray(self.distance_P <= self.low)

    def far(self) -> BoolArray:
        """Pairs that are far here."""
        return np.asarray(self.distance_P > self.high)

    def counts(self, chosen_P: BoolArray) -> tuple[AnyArray, AnyArray]:
        """Return (N,) chosen pairs and (N,) all other pairs in each bin."""
        bins = len(self.edges) - 1
        chosen_N = np.bincount(self.bin_P[chosen_P], minlength=bins)[:bins]
        return chosen_N, np.bincount(self.bin_P, minlength=bins)[:bins] - chosen_N

    def shares(self, chosen_P: BoolArray) -> tuple[float, float, float]:
        """Return which shares of the chosen pairs lie in this column's closest, middle and farthest part."""
        distance = self.distance_P[chosen_P]
        if not len(distance):
            return (float("nan"),) * 3
        near, far = float((distance <= self.low).mean()), float((distance > self.high).mean())
        return near, 1 - near - far, far


def column(
    label: str,
    run: str,
    task: str,
    distance_P: AnyArray,
    limits: tuple[float, float],
    bins: int,
    rounded: bool = False,
) -> Column:
    """Return a column with its percentiles and bins.

    Args:
        label: its name.
        run: label of the run.
        task: whose view it is.
        distance_P: distances.
        limits: percentiles, such as (40, 60).
        bins: N, at most 254.
        rounded: whether bounds are rounded (published).
    """
    # in the distances' own precision, linearly interpolated, as published
    low, high = percentiles(distance_P, limits)
    edges = bin_edges(float(distance_P.min()), float(distance_P.max()), bins, rounded)
    return Column(label, run, task, distance_P, low, high, edges, _bins(distance_P, edges))


def bin_edges(low: float, high: float, bins: int, rounded: bool = False) -> AnyArray:
    """Return (N + 1,) bounds of equal-width bins that include both ends (``pandas.cut``).

    Args:
        low: smallest value.
        high: largest value.
        bins: N.
        rounded: take the bounds from the names that pandas gives to the bins, three digits of each, as the released
            notebook does; values beyond the last one are then in no bin.
    """
    if rounded:
        names = pd.cut(np.array([low, high]), bins, include_lowest=True).categories
        return np.array([names[0].left, *(name.right for name in names)])
    if low == high:
        low, high = low - 0.5, high + 0.5
    edges = np.linspace(low, high, bins + 1)
    edges[0] -= (high - low) * 0.001
    return edges


def _bins(distance_P: AnyArray, edges: AnyArray) -> UInt8Array:
    bin_P = np.empty(len(distance_P), dtype=np.uint8)
    for start in range(0, len(distance_P), _BLOCK):
        part = slice(start, start + _BLOCK)
        bin_P[part] = np.searchsorted(edges, distance_P[part]).clip(1) - 1
    return bin_P


@dataclass(frozen=True)
class Retention:
    """How much of a disagreement a model keeps.

    Attributes:
        near: share of the conflicting pairs that are close in its view of the first task.
        far: share that are far in its view of the second.
    """

    near: float
    far: float

    @property
    def score(self) -> float:
        """Their mean: 1 for the models that define the conflict, at most 0.5 where both tasks share one table."""
        return (self.near + self.far) / 2


def retention(chosen_P: BoolArray, near: Column, far: Column) -> Retention:
    """Return how much of a conflict is kept.

    Args:
        chosen_P: pairs that are close for task A and far for task B in the single-task models.
        near: a model's view of task A.
        far: its view of task B.
    """
    return Retention(near.shares(chosen_P)[0], far.shares(chosen_P)[2])

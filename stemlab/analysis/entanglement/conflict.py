"""Pairs that are close for one task and far for another, and their distances in other models.

Source: released notebook of arXiv 2403.00793; docs/methods/recscope.md#conflict-subset. Retention is a summary defined
by this project (docs/methods/recscope.md#conflict-retention).

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
class TableDistances:
    """Distances of all pairs in the tables of a single-task model, or in one pair of tables of a joint model.

    Attributes:
        label: name in matrices and figures.
        run: label of the run.
        task: task of the tables; empty for tables that belong to no single task.
        distance_P: (P,) distances.
        low: largest distance of a close pair (percentile ``analysis.near``), inclusive.
        high: distance above which a pair is far (percentile ``analysis.far``), exclusive.
        edges: (N + 1,) edges of equal-width bins; the first one is slightly below the smallest distance.
        bin_P: (P,) bin index of every pair; N for pairs in no bin (rounded edges only).
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
        """Return (P,) whether each pair is close."""
        return np.asarray(self.distance_P <= self.low)

    def far(self) -> BoolArray:
        """Return (P,) whether each pair is far."""
        return np.asarray(self.distance_P > self.high)

    def counts(self, chosen_P: BoolArray) -> tuple[AnyArray, AnyArray]:
        """Return the numbers of chosen pairs (N,) and of other pairs (N,) per bin."""
        bins = len(self.edges) - 1
        chosen_N = np.bincount(self.bin_P[chosen_P], minlength=bins)[:bins]
        return chosen_N, np.bincount(self.bin_P, minlength=bins)[:bins] - chosen_N

    def shares(self, chosen_P: BoolArray) -> tuple[float, float, float]:
        """Return the shares of the chosen pairs that are close, in between, and far; NaN if no pair is chosen."""
        distance = self.distance_P[chosen_P]
        if not len(distance):
            return (float("nan"),) * 3
        near, far = float((distance <= self.low).mean()), float((distance > self.high).mean())
        return near, 1 - near - far, far


def table_distances(
    label: str,
    run: str,
    task: str,
    distance_P: AnyArray,
    limits: tuple[float, float],
    bins: int,
    rounded: bool = False,
) -> TableDistances:
    """Return distances with their percentiles and bins.

    Args:
        label: name in matrices and figures.
        run: label of the run.
        task: task of the tables, or empty.
        distance_P: (P,) distances.
        limits: percentiles of close and far pairs, such as (40, 60).
        bins: N, at most 254.
        rounded: whether bin edges are rounded (as in the released code).
    """
    # in the dtype of the distances and with linear interpolation, as in the released code
    low, high = percentiles(distance_P, limits)
    edges = bin_edges(float(distance_P.min()), float(distance_P.max()), bins, rounded)
    return TableDistances(label, run, task, distance_P, low, high, edges, _bins(distance_P, edges))


def bin_edges(low: float, high: float, bins: int, rounded: bool = False) -> AnyArray:
    """Return (N + 1,) edges of equal-width bins that include both ends (as ``pandas.cut``).

    Args:
        low: smallest value.
        high: largest value.
        bins: N.
        rounded: whether to use the edges of the pandas interval labels, rounded to three digits, as the released
            notebook does; values above the last edge are then in no bin.
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
    """Share of a conflict that a model retains.

    Attributes:
        near: share of the conflicting pairs that are close in the model's tables of the first task.
        far: share of the conflicting pairs that are far in the model's tables of the second task.
    """

    near: float
    far: float

    @property
    def score(self) -> float:
        """Mean of both: 1 for the models that define the conflict, at most 0.5 if the tasks share one table."""
        return (self.near + self.far) / 2


def retention(chosen_P: BoolArray, near: TableDistances, far: TableDistances) -> Retention:
    """Return the retention of a conflict.

    Args:
        chosen_P: (P,) whether a pair is close for task A and far for task B in the single-task models.
        near: distances in the model's tables of task A.
        far: distances in the model's tables of task B.
    """
    return Retention(near.shares(chosen_P)[0], far.shares(chosen_P)[2])

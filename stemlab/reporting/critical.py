"""Ranks of models over several datasets, and which of them differ (Demšar, JMLR 2006).

Friedman's test decides whether the average ranks of K models over N blocks (metrics of datasets) differ at all. The
Nemenyi test then declares two models different if their average ranks differ by more than the critical difference; the
alternative compares every two models by Wilcoxon's signed-rank test with Holm's correction.

Legend: K models, N blocks.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Literal

import numpy as np

from stemlab.array_types import AnyArray
from stemlab.errors import StemlabError
from stemlab.metric_directions import metric_direction
from stemlab.reporting.statistics import holm
from stemlab.reporting.table import ReportRow, ReportTable

Method = Literal["nemenyi", "wilcoxon"]


@dataclass(frozen=True)
class RankedModels:
    """Models in the order of their average ranks.

    Attributes:
        names: (K,) names, best first.
        ranks: (K,) average ranks; 1 is best.
        blocks: number of blocks N.
        p: p-value of Friedman's test that all models are equal.
        method: test of two models.
        level: significance level.
        difference: critical difference of two average ranks; ``None`` for ``wilcoxon``.
        cliques: first and last position of every largest group of models without a significant difference.
        left_out: models that lack a value in some block.
    """

    names: tuple[str, ...]
    ranks: tuple[float, ...]
    blocks: int
    p: float
    method: Method
    level: float
    difference: float | None
    cliques: tuple[tuple[int, int], ...]
    left_out: tuple[str, ...] = ()


def nemenyi_difference(models: int, blocks: int, level: float = 0.05) -> float:
    """Return the critical difference of two average ranks, ``q sqrt(K (K + 1) / (6 N))``.

    q is the quantile of the studentized range with infinitely many degrees of freedom, divided by sqrt(2).
    """
    from scipy.stats import studentized_range

    quantile = float(studentized_range.ppf(1 - level, models, math.inf)) / math.sqrt(2)
    return quantile * math.sqrt(models * (models + 1) / (6 * blocks))


def rank_models(
    names: Sequence[str], values_KN: AnyArray, method: Method, level: float = 0.05, left_out: Sequence[str] = ()
) -> RankedModels:
    """Return the average ranks of models with the tests of their differences.

    Args:
        names: names of the K models.
        values_KN: metrics, larger is better; equal values share the mean of their ranks.
        method: test of two models.
        level: significance level.
        left_out: models that lack a value in some block.

    Raises:
        StemlabError: there are fewer than three models or two blocks.
    """
    from scipy.stats import friedmanchisquare, rankdata

    values_KN = np.asarray(values_KN, dtype=np.float64)
    if values_KN.shape[0] < 3 or values_KN.shape[1] < 2:
        raise StemlabError(
            f"critical: {values_KN.shape[0]} models with a value in each of {values_KN.shape[1]} columns: Friedman's "
            "test needs three models and two columns; report more datasets, tasks or models."
        )
    rank_K = rankdata(-values_KN, axis=0).mean(1)
    order = np.argsort(rank_K, kind="stable")
    sorted_KN, ranks = values_KN[order], rank_K[order].tolist()
    difference: float | None
    equal = bool((sorted_KN == sorted_KN[0]).all())  # the statistic is then 0 / 0
    p = 1.0 if equal else float(friedmanchisquare(*sorted_KN).pvalue)
    if method == "nemenyi":
        difference = nemenyi_difference(len(ranks), values_KN.shape[1], level)
        differing = {(a, b) for a, b in combinations(range(len(ranks)), 2) if ranks[b] - ranks[a] > difference}
    else:
        difference, differing = None, _wilcoxon_pairs(sorted_KN, level)
    cliques = _cliques(len(ranks), differing)
    return RankedModels(
        *(tuple(names[i] for i in order), tuple(ranks), values_KN.shape[1], p, method, level, difference, cliques),
        left_out=tuple(left_out),
    )


def _wilcoxon_pairs(values_KN: AnyArray, level: float) -> set[tuple[int, int]]:
    """Return the pairs of models that differ by Wilcoxon's signed-rank test with Holm's correction."""
    from scipy.stats import wilcoxon

    pairs = list(combinations(range(len(values_KN)), 2))
    found = []
    for one, other in pairs:
        same = bool((values_KN[one] == values_KN[other]).all())
        found.append(1.0 if same else float(wilcoxon(values_KN[one], values_KN[other]).pvalue))
    return {pair for pair, p in zip(pairs, holm(found), strict=True) if p < level}


def _cliques(models: int, differing: set[tuple[int, int]]) -> tuple[tuple[int, int], ...]:
    """Return the largest runs of consecutive models of which no two differ, those of one model left out."""
    found: list[tuple[int, int]] = []
    for first in range(models):
        last = first
        while last + 1 < models and not any((one, last + 1) in differing for one in range(first, last + 1)):
            last += 1
        if last > first and (not found or last > found[-1][1]):
            found.append((first, last))
    return tuple(found)


def blocks_of_tables(tables: Sequence[ReportTable], metrics: Sequence[str]) -> tuple[list[str], AnyArray, list[str]]:
    """Return the models with a value in every block, their values (K, N), larger is better, and the other models.

    A block is a column of a table (metric and task of a dataset); its values are means over seeds.

    Args:
        tables: tables of a report.
        metrics: metrics (``auc``, ``ndcg@5``) whose columns are blocks.

    Raises:
        StemlabError: a metric has no direction or no column, or two rows of the same name have a value in a column.
    """
    blocks: list[dict[str, float]] = []
    for table in tables:
        names = [model_name(row) for row in table.rows]
        for column in table.columns:
            metric = column.partition("/")[0]
            direction = metric_direction(f"test/{column}", table.own)
            if metric not in metrics:
                continue
            if direction is None:
                raise StemlabError(f"critical.metrics: {metric} has no direction, so its values have no ranks.")
            sign = 1.0 if direction == "max" else -1.0
            block: dict[str, float] = {}
            for name, row in zip(names, table.rows, strict=True):
                mean = row.stats[column].mean
                if mean is not None and name in block:
                    raise StemlabError(
                        f"critical: a table has two rows of {name} with {column}; add a key that differs to `by`."
                    )
                block |= {} if mean is None else {name: sign * mean}
            blocks += [block] if block else []
    if not blocks:
        raise StemlabError(f"critical.metrics: no table has a column of {', '.join(metrics)}.")
    common = [name for name in blocks[0] if all(name in block for block in blocks)]
    left_out = list(dict.fromkeys(name for block in blocks for name in block if name not in common))
    values = np.array([[block[name] for block in blocks] for name in common]).reshape(len(common), len(blocks))
    return common, values, left_out


def model_name(row: ReportRow) -> str:
    """Return the name of a row in a figure: the values of its keys."""
    return " ".join(str(value) for value in row.labels.values() if value is not None)

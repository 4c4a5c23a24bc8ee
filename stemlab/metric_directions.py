"""Names of the metrics and whether larger or smaller values are better; imports no torch, for the config checks."""

from __future__ import annotations

from collections.abc import Mapping

from stemlab.types import Mode

TASK_METRICS: dict[str, Mode | None] = {
    "auc": "max",
    "gauc": "max",
    "gauc_encoded": "max",
    "logloss": "min",
    "calibration": None,  # predicted / observed positives: best at 1
    "ece": "min",
}
"""Metrics of binary tasks (``stemlab.metrics.multitask``); ``None``: neither larger nor smaller is better."""

REGRESSION_METRICS: dict[str, Mode | None] = {"rmse": "min", "mae": "min", "xauc": "max"}
"""Metrics of regression tasks."""

RANKING_METRICS: dict[str, Mode | None] = {"hr": "max", "ndcg": "max", "mrr": "max"}
"""Metrics of a sequential model (``stemlab.metrics.ranking``), without cut-off."""

BEYOND_ACCURACY: dict[str, Mode | None] = {
    "coverage": "max",
    "novelty": "max",
    "popularity": "min",
    "gini": "min",
    "diversity": "max",
    "diversity_cosine": "max",
}
"""Metrics of lists of recommended items (``stemlab.metrics.beyond_accuracy``), without cut-off."""

BUILT_IN: dict[str, Mode | None] = TASK_METRICS | REGRESSION_METRICS | RANKING_METRICS | BEYOND_ACCURACY


def metric_direction(name: str, own: Mapping[str, Mode | None] | None = None) -> Mode | None:
    """Return whether larger or smaller values of ``split/metric[@k][/task[/scenario]]`` are better.

    ``None`` for a metric without direction and for an unknown name.

    Args:
        name: full name of a metric.
        own: directions of metrics of the user (``stemlab.config.own_metrics.own_directions``).
    """
    _, _, metric = name.partition("/")
    base = metric.partition("/")[0].partition("@")[0]
    return {**BUILT_IN, **(own or {})}.get(base)

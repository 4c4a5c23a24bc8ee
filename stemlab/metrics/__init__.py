"""Metrics that are exact for every world size (docs/methods/metrics.md)."""

from stemlab.metrics.auc import GroupAUC, auc, gauc, group_auc
from stemlab.metrics.beyond_accuracy import BeyondAccuracyMetrics
from stemlab.metrics.calibration import calibration_ratio, ece, log_loss
from stemlab.metrics.multitask import MultiTaskMetrics
from stemlab.metrics.ranking import RankingMetrics, positive_ranks, ranking_metrics

__all__ = [
    "BeyondAccuracyMetrics",
    "GroupAUC",
    "MultiTaskMetrics",
    "RankingMetrics",
    "auc",
    "calibration_ratio",
    "ece",
    "gauc",
    "group_auc",
    "log_loss",
    "positive_ranks",
    "ranking_metrics",
]

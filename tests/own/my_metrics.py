"""Metrics of a user, complete and incomplete ones."""

import numpy as np

from stemlab.metrics.own import CutoffMetric, RankMetric, TaskMetric, measure_task
from stemlab.metrics.task_values import TaskSamples


class Brier(TaskMetric):
    higher_is_better = False
    weighted = True

    def measure(self, samples):
        return np.average((samples.values - samples.labels) ** 2, weights=samples.weights)


class Bias(TaskMetric):
    """Mean error of a regression task, scaled; also of binary tasks if a config asks for it."""

    higher_is_better = None
    kinds = ("regression", "binary")
    weighted = True

    def __init__(self, *, scale: float = 1.0):
        self.scale = scale

    def measure(self, samples):
        return self.scale * np.average(samples.values - samples.labels, weights=samples.weights)


class OfTimes(Brier):
    kinds = ("regression",)


class Unweighted(Brier):
    weighted = False


class Returns(TaskMetric):
    """Returns a constant."""

    higher_is_better = True

    def __init__(self, *, value: float):
        self.value = value

    def measure(self, samples):
        return self.value


class Empty(TaskMetric):
    kinds = ("label",)

    def __init__(self, *, top: int):
        self.top = top


class Positional(Brier):
    def __init__(self, top):
        self.top = top


class MeanRank(RankMetric):
    higher_is_better = False

    def measure(self, rank_B):
        return rank_B.mean()


class Precision(CutoffMetric):
    higher_is_better = True

    def measure(self, rank_B, k):
        return (rank_B <= k).mean() / k


class WrongColumn(Brier):
    def measure(self, samples):
        return samples.targets.mean()


def measured(metrics):
    """Measure two samples."""
    return measure_task(metrics, TaskSamples(np.array([0, 1]), np.array([0.2, 0.7]), {}))

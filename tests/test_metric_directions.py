"""Every metric declares whether larger or smaller values are better."""

import numpy as np
import pytest
import torch

from stemlab.config.compose import compose
from stemlab.config.monitor_checks import check_search_direction
from stemlab.config.resolve import resolve
from stemlab.errors import StemlabError
from stemlab.metric_directions import RANKING_METRICS, TASK_METRICS, metric_direction
from stemlab.metrics import MultiTaskMetrics
from stemlab.metrics.ranking import ranking_metrics


def test_every_computed_metric_is_declared():
    metrics = MultiTaskMetrics(["like"])
    group_B = torch.zeros(2, dtype=torch.int64)
    metrics.update(torch.tensor([[0.2], [0.7]]), torch.tensor([[0], [1]]), group_B, group_B)
    assert {name.split("/")[0] for name in metrics.compute()} == set(TASK_METRICS)
    assert {name.split("@")[0] for name in ranking_metrics(np.array([1.0]), [5])} == set(RANKING_METRICS)


@pytest.mark.parametrize(
    ("name", "better"),
    [
        ("val/auc", "max"),
        ("val/logloss/like/nl", "min"),
        ("val/ndcg@5", "max"),
        ("val/ece", "min"),
        ("val/calibration/like", None),
    ],
)
def test_direction_of_a_full_name(name, better):
    assert metric_direction(name) == better


def test_mode_follows_the_monitor():
    chosen = compose("train", ["callbacks.checkpoint.monitor=val/logloss/like"])["callbacks"]
    assert chosen["checkpoint"]["mode"] == "min"
    assert chosen["early_stop"]["mode"] == "max"  # val/auc
    plain = {"callbacks": {"checkpoint": {"monitor": "val/logloss", "mode": None}, "progress": True}}
    assert resolve(plain)["callbacks"]["checkpoint"]["mode"] == "min"
    assert plain["callbacks"]["checkpoint"]["mode"] is None


def test_a_search_in_the_wrong_direction_is_refused():
    check_search_direction("val/auc", {"direction": "maximize"})
    check_search_direction("val/logloss", {"direction": "minimize"})
    check_search_direction("val/logloss", {})
    for objective, direction in (
        ("val/logloss", "maximize"),
        ("val/auc", "minimize"),
        ("val/calibration/a", "maximize"),
    ):
        with pytest.raises(StemlabError, match=r"hydra\.sweeper\.direction"):
            check_search_direction(objective, {"direction": direction})

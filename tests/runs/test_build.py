"""Checks before a training: steps of a single sample, models with parts per scenario on data without scenarios."""

from typing import Any

import pytest
import torch
from torch import nn

from stemlab.data.batch_order import ShuffledOrder, training_steps
from stemlab.errors import StemlabError
from stemlab.models.multiscenario.base import ScenarioNet
from stemlab.nn.norm import SubsetBatchNorm
from stemlab.runs.build import check_batch_norm, single_scenario_warning
from tests.models.scenario_nets import NETS, build

NET = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 1))
CPU = {"accelerator": "cpu", "devices": 1}


@pytest.mark.parametrize(
    ("samples", "batch_size", "sizes"), [(33, 16, [16, 17]), (34, 16, [16, 16, 2]), (17, 16, [17])]
)
def test_a_last_sample_joins_the_step_before_it(samples: int, batch_size: int, sizes: list[int]) -> None:
    order = ShuffledOrder(samples, batch_size, seed=0)
    found = [len(rows) for rows in order.batches()]
    assert found == sizes
    assert len(found) == len(order) == training_steps(samples, batch_size)
    for rows in order.batches():
        NET.train()(torch.zeros(len(rows), 3))


@pytest.mark.parametrize(
    ("samples", "batch_size", "hint"), [(100, 1, "dataset.batch_size"), (1, 8, "1 training sample")]
)
def test_steps_of_one_sample_are_refused_with_batch_normalisation(samples: int, batch_size: int, hint: str) -> None:
    with pytest.raises(StemlabError, match=f"layer 1.*{hint}"):
        check_batch_norm(NET, CPU, samples, batch_size)
    check_batch_norm(nn.Linear(3, 1), CPU, samples, batch_size)
    check_batch_norm(SubsetBatchNorm(3), CPU, samples, batch_size)
    check_batch_norm(NET, CPU, 100, 2)


@pytest.mark.parametrize("cls", NETS, ids=lambda cls: cls.__name__)
@pytest.mark.parametrize(
    ("dataset", "hint"),
    [
        ({"name": "table", "scenario": None, "scenarios": []}, "dataset.scenario to"),
        ({"name": "aliexpress", "scenarios": ["nl"]}, "dataset.scenarios"),
        ({"name": "tiktok"}, "dataset=aliexpress"),
    ],
)
def test_a_model_with_parts_per_scenario_warns_on_one_scenario(
    cls: type[ScenarioNet], dataset: dict[str, Any], hint: str
) -> None:
    config = {"model": {"name": "x"}, "dataset": dataset}
    warning = single_scenario_warning(config, build(cls, scenarios=0))
    assert warning is not None
    assert hint in warning
    assert f"dataset={dataset['name']}" in warning
    assert single_scenario_warning(config, build(cls, scenarios=1)) is not None
    assert single_scenario_warning(config, build(cls, scenarios=3)) is None
    assert single_scenario_warning(config, NET) is None

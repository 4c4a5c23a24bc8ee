"""Small multi-scenario networks and batches for the tests of this folder."""

from __future__ import annotations

from typing import Any

import torch

from stemlab.data.batch import ImpressionBatch
from stemlab.data.spec import ImpressionSizes
from stemlab.models.multiscenario.adasparse import AdaSparse
from stemlab.models.multiscenario.base import ScenarioNet
from stemlab.models.multiscenario.hinet import HiNet
from stemlab.models.multiscenario.m2m import M2M
from stemlab.models.multiscenario.pepnet import PEPNet
from stemlab.models.multiscenario.sar_net import SARNet
from stemlab.models.multiscenario.star import STAR
from stemlab.models.multitask.base import TabularNet

FIELDS = {"uid": 11, "item": 7, "city": 5}
TASKS = ["click", "like", "share", "follow"]
SCENARIOS = ("nl", "es", "fr")
MIXED = [0, 2, 1, 1, 0, 2, 2, 0, 1, 0, 2, 1]  # scenarios of a batch
SETTINGS: dict[type[ScenarioNet], dict[str, Any]] = {
    STAR: {"hidden_units": [8, 6], "scenario_dim": 4, "aux_hidden_units": [5]},
    SARNet: {"num_shared_experts": 3, "num_specific_experts": 2, "expert_width": 6, "tower_hidden_units": [5]},
    AdaSparse: {"hidden_units": [8, 6], "tower_hidden_units": [5], "scenario_dim": 4},
    PEPNet: {"personal_fields": ["uid", "item"], "hidden_units": [8, 6], "gate_width": 5, "scenario_dim": 4},
    M2M: {
        "backbone_hidden_units": [8],
        "num_experts": 3,
        "expert_width": 6,
        "task_dim": 3,
        "scenario_dim": 4,
        "scenario_hidden_units": [5],
        "tower_layers": 2,
    },
    HiNet: {
        "num_sub_experts": 2,
        "sub_expert_hidden_units": [6],
        "scenario_dim": 4,
        "num_shared_experts": 2,
        "num_specific_experts": 1,
        "expert_hidden_units": [6],
        "gate_hidden_units": [],
        "tower_hidden_units": [5],
    },
}
NETS = list(SETTINGS)


def build(
    cls: type[ScenarioNet], tasks: int = 2, scenarios: int = 3, numericals: int = 2, **settings: Any
) -> ScenarioNet:
    """Return a small network with random parameters and running statistics."""
    torch.manual_seed(0)
    dense = {f"x{n}": "" for n in range(numericals)}
    sizes = ImpressionSizes(FIELDS, dense, SCENARIOS[:scenarios])
    net = cls(sizes, TASKS[:tasks], **{"embedding_dim": 3, **SETTINGS[cls], **settings})
    randomise(net)
    return net


def randomise(net: TabularNet) -> None:
    """Draw random parameters and running statistics in place; row 0 of the tables stays zero."""
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.normal_(0, 0.5)
        for weight in net.embedding_parameters():
            weight[0] = 0
        for name, buffer in net.named_buffers():
            if name.endswith(("running_mean", "running_var")):
                buffer.uniform_(0.5, 1.5)


def random_batch(scenarios: list[int] | None, count: int = 12, numericals: int = 2) -> ImpressionBatch:
    """Return random samples with these scenarios."""
    count = count if scenarios is None else len(scenarios)
    torch.manual_seed(7)
    return ImpressionBatch(
        torch.stack([torch.randint(0, size, (count,)) for size in FIELDS.values()], dim=1),
        dense_BN=torch.randn(count, numericals) if numericals else None,
        scenario_B=None if scenarios is None else torch.tensor(scenarios, dtype=torch.int32),
    )


def take_samples(batch: ImpressionBatch, samples: list[int]) -> ImpressionBatch:
    """Return some samples of a batch."""
    dense_BN = None if batch.dense_BN is None else batch.dense_BN[samples]
    scenario_B = None if batch.scenario_B is None else batch.scenario_B[samples]
    return ImpressionBatch(batch.ids_BF[samples], dense_BN=dense_BN, scenario_B=scenario_B)

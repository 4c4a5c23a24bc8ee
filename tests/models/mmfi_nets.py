"""Small MMFI networks and batches for the tests of this folder."""

from __future__ import annotations

from typing import Any

import torch

from stemlab.data.batch import ImpressionBatch
from stemlab.data.spec import ImpressionSizes
from stemlab.models.multiscenario.mmfi import MMFI

FIELDS = {"uid": 11, "item": 7, "city": 5}
TASKS = ["click", "buy", "like"]
SCENARIOS = ("nl", "es", "fr")
NUMERICALS = {"age": "user", "price": "item", "visits": "user"}
MIXED = [0, 2, 1, 1, 0, 2, 2, 0, 1, 0, 2, 1]
SPARSE = ["tanh_relu", "softmax_t", "sparsemax", "entmax15"]


def sizes_of(scenarios: int = 3, **more: Any) -> ImpressionSizes:
    return ImpressionSizes(**{"fields": FIELDS, "numericals": NUMERICALS, "scenarios": SCENARIOS[:scenarios], **more})


def build(tasks: int = 2, sizes: ImpressionSizes | None = None, **chosen: Any) -> MMFI:
    """Return a small network with random parameters and running statistics."""
    torch.manual_seed(0)
    net = MMFI(sizes or sizes_of(), TASKS[:tasks], **{"embedding_dim": 3, "tower_hidden_units": [6, 5], **chosen})
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.normal_(0, 0.5)
        for weight in net.embedding_parameters():
            weight[0] = 0
        for name, buffer in net.named_buffers():
            if name.endswith(("running_mean", "running_var")):
                buffer.uniform_(0.5, 1.5)
    return net


def random_batch(scenarios: list[int] | None, count: int = 12) -> ImpressionBatch:
    count = count if scenarios is None else len(scenarios)
    torch.manual_seed(7)
    return ImpressionBatch(
        torch.stack([torch.randint(0, size, (count,)) for size in FIELDS.values()], dim=1),
        dense_BN=torch.randn(count, len(NUMERICALS)),
        scenario_B=None if scenarios is None else torch.tensor(scenarios, dtype=torch.int32),
    )


def take_samples(batch: ImpressionBatch, samples: list[int]) -> ImpressionBatch:
    scenario_B = None if batch.scenario_B is None else batch.scenario_B[samples]
    assert batch.dense_BN is not None
    return ImpressionBatch(batch.ids_BF[samples], dense_BN=batch.dense_BN[samples], scenario_B=scenario_B)

"""Small MMFI networks and batches for the tests of this folder."""

from __future__ import annotations

from typing import Any

import torch

from stemlab.data.batch import ImpressionBatch
from stemlab.data.spec import ImpressionSizes
from stemlab.models.multiscenario.mmfi import MMFI
from tests.models import scenario_nets
from tests.models.scenario_nets import FIELDS, SCENARIOS, randomise

TASKS = ["click", "buy", "like"]
NUMERICALS = {"age": "user", "price": "item", "visits": "user"}
SPARSE = ["tanh_relu", "softmax_t", "sparsemax", "entmax15"]


def sizes_of(scenarios: int = 3, **more: Any) -> ImpressionSizes:
    return ImpressionSizes(**{"fields": FIELDS, "numericals": NUMERICALS, "scenarios": SCENARIOS[:scenarios], **more})


def build(tasks: int = 2, sizes: ImpressionSizes | None = None, **chosen: Any) -> MMFI:
    """Return a small network with random parameters and running statistics."""
    torch.manual_seed(0)
    net = MMFI(sizes or sizes_of(), TASKS[:tasks], **{"embedding_dim": 3, "tower_hidden_units": [6, 5], **chosen})
    randomise(net)
    return net


def random_batch(scenarios: list[int] | None, count: int = 12) -> ImpressionBatch:
    """Return random samples with these scenarios and the columns of ``NUMERICALS``."""
    return scenario_nets.random_batch(scenarios, count, len(NUMERICALS))

"""Small multi-task networks and batches for the tests of this folder."""

from __future__ import annotations

from typing import Any

import torch

from stemlab.data.batch import ImpressionBatch
from stemlab.models import multitask
from stemlab.models.multitask.base import TabularNet

FIELDS = {"uid": 11, "item": 7, "city": 5}
BOTTOM = {"bottom_hidden_units": [12, 8], "tower_hidden_units": [8]}
GATED = {"expert_hidden_units": [12, 8], "gate_hidden_units": [6], "tower_hidden_units": [8]}
POOL = GATED | {"num_layers": 1, "num_shared_experts": 2, "num_specific_experts": 2}
SETTINGS: dict[str, dict[str, Any]] = {
    "SingleTask": BOTTOM,
    "SharedBottom": BOTTOM,
    "AITM": BOTTOM,
    "ESMM": {"tower_hidden_units": [8, 6]},
    "OMoE": GATED | {"num_experts": 3},
    "MMoE": GATED | {"num_experts": 3},
    "MMoE_ME": GATED | {"num_experts": 3},
    "MetaHeac": {"num_experts": 3, "expert_hidden_units": [12, 8], "num_critics": 2, "critic_hidden_units": [8]},
    "PLE": POOL,
    "PLE_ME": POOL,
    "STEM": POOL,
}
TASKS = ["finish", "like", "share", "follow"]


def build(name: str, tasks: int = 2, seed: int = 0, **settings: Any) -> TabularNet:
    """Return a small network with random parameters (the real initial embeddings are close to zero)."""
    torch.manual_seed(seed)
    net = getattr(multitask, name)(FIELDS, TASKS[:tasks], **{"embedding_dim": 3, **SETTINGS[name], **settings})
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.normal_(0, 0.5)
        for weight in net.embedding_parameters():
            weight[0] = 0
    return net


def random_batch(rows: int = 16) -> ImpressionBatch:
    """Return random samples."""
    torch.manual_seed(7)
    return ImpressionBatch(torch.stack([torch.randint(0, size, (rows,)) for size in FIELDS.values()], dim=1))

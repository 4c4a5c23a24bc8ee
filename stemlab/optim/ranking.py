"""Optimisers of sequential models: torch optimisers with coupled L2 on all parameters except biases.

The rule of the released code (docs/methods/timirec.md#optimiser): parameters whose name contains "bias" have no weight
decay; all others have it, including embeddings and layer norms. The decay is coupled (added to the gradient).
"""

from __future__ import annotations

from typing import Any, Literal

import torch
from pydantic import ConfigDict
from pydantic.dataclasses import dataclass
from torch import nn
from torch.optim import Optimizer

from stemlab.types import LearningRate, PenaltyWeight

OPTIMIZERS: dict[str, type[Optimizer]] = {
    "adam": torch.optim.Adam,
    "sgd": torch.optim.SGD,
    "adagrad": torch.optim.Adagrad,
    "adadelta": torch.optim.Adadelta,
}
_FUSED = {"adam": ("cpu", "cuda"), "sgd": ("cpu", "cuda"), "adagrad": ("cpu",)}


@dataclass(frozen=True, kw_only=True, config=ConfigDict(extra="forbid"))
class RankingOptimConfig:
    """Settings of the optimiser; other settings are the defaults of torch. Defaults are those of the released code.

    Attributes:
        name: the optimiser.
        lr: learning rate.
        l2: coupled weight decay of all parameters whose name does not contain ``bias``.
    """

    name: Literal["adam", "sgd", "adagrad", "adadelta"] = "adam"
    lr: LearningRate = 1e-3
    l2: PenaltyWeight = 0.0


def build_ranking_optimizer(net: nn.Module, config: RankingOptimConfig) -> Optimizer:
    """Return the optimiser of a network, fused if torch supports it on the device.

    Args:
        net: the network; its trainable parameters are grouped by name.
        config: optimiser, learning rate, L2.
    """
    named = [(name, parameter) for name, parameter in net.named_parameters() if parameter.requires_grad]
    groups = [
        {"name": "decayed", "params": [p for name, p in named if "bias" not in name], "weight_decay": config.l2},
        {"name": "biases", "params": [p for name, p in named if "bias" in name], "weight_decay": 0.0},
    ]
    devices = {parameter.device.type for _, parameter in named}
    fused: dict[str, Any] = {"fused": True} if devices <= set(_FUSED.get(config.name, ())) else {}
    return OPTIMIZERS[config.name]([group for group in groups if group["params"]], lr=config.lr, **fused)  # type: ignore[call-arg]

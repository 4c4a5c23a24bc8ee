"""The optimisers of ranking models: torch's own, with an L2 that spares biases.

The published rule (spec/timirec.md section 7): parameters whose name contains "bias" are not decayed, all others are,
embeddings and layer norms included; the decay is coupled (added to the gradient), as torch's ``weight_decay`` is.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

import torch
from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass
from torch import nn
from torch.optim import Optimizer

from stemlab.types import NonNegativeFloat, PositiveFloat

OPTIMIZERS: dict[str, type[Optimizer]] = {
    "adam": torch.optim.Adam,
    "sgd": torch.optim.SGD,
    "adagrad": torch.optim.Adagrad,
    "adadelta": torch.optim.Adadelta,
}
_FUSED = {"adam": ("cpu", "cuda"), "sgd": ("cpu", "cuda"), "adagrad": ("cpu",)}


@dataclass(frozen=True, kw_only=True, config=ConfigDict(extra="forbid"))
class RankingOptimConfig:
    """One of torch's optimisers with its own defaults; the defaults here are the published ones.

    Attributes:
        name: which optimiser.
        lr: learning rate.
        l2: coupled weight decay of every parameter whose name does not contain ``bias``.
    """

    name: Literal["adam", "sgd", "adagrad", "adadelta"] = "adam"
    lr: PositiveFloat = 1e-3
    l2: Annotated[NonNegativeFloat, Field(allow_inf_nan=False)] = 0.0


def build_ranking_optimizer(net: nn.Module, config: RankingOptimConfig) -> Optimizer:
    """Return the optimiser of a net, in torch's fused form where there is one for the device.

    Args:
        net: its trainable parameters are split by their names.
        config: kind, learning rate, L2.
    """
    named = [(name, parameter) for name, parameter in net.named_parameters() if parameter.requires_grad]
    groups = [
        {"name": "decayed", "params": [p for name, p in named if "bias" not in name], "weight_decay": config.l2},
        {"name": "biases", "params": [p for name, p in named if "bias" in name], "weight_decay": 0.0},
    ]
    devices = {parameter.device.type for _, parameter in named}
    fused: dict[str, Any] = {"fused": True} if devices <= set(_FUSED.get(config.name, ())) else {}
    return OPTIMIZERS[config.name]([group for group in groups if group["params"]], lr=config.lr, **fused)  # type: ignore[call-arg]

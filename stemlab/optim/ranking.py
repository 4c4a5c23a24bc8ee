"""Optimisers of sequential models: torch optimisers with coupled L2 on all parameters except biases.

The rule of the released code (docs/methods/timirec.md#optimiser): parameters whose name contains "bias" have no weight
decay; all others have it, including embeddings and layer norms. The decay is coupled (added to the gradient).
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

import torch
from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass
from torch import nn
from torch.optim import Optimizer

from stemlab.optim.config import ADAMW_DECAY, Beta, Decay, RateGroups, TableRule
from stemlab.optim.groups import with_rates
from stemlab.optim.schedule import ScheduleConfig
from stemlab.optim.tables import RowAdam, is_fused, split_tables, table_settings
from stemlab.types import LearningRate, NonNegativeFloat, PenaltyWeight

OPTIMIZERS: dict[str, type[Optimizer]] = {
    "adam": torch.optim.Adam,
    "sgd": torch.optim.SGD,
    "adagrad": torch.optim.Adagrad,
    "adadelta": torch.optim.Adadelta,
    "adamw": torch.optim.AdamW,
}
_FUSED = {"adam": ("cpu", "cuda"), "adamw": ("cpu", "cuda"), "sgd": ("cpu", "cuda"), "adagrad": ("cpu",)}


@dataclass(frozen=True, kw_only=True, config=ConfigDict(extra="forbid"))
class RankingOptimConfig:
    """Settings of the optimiser; other settings are the defaults of torch. Defaults are those of the released code.

    Attributes:
        name: the optimiser.
        lr: learning rate.
        lr_groups: learning rates of groups of parameters.
        l2: coupled weight decay of all parameters whose name does not contain ``bias``.
        weight_decay: decoupled weight decay of the same parameters by AdamW; ``None`` is 0.01.
        momentum: momentum of SGD; ``None`` is 0.
        tables: rule of the embedding tables: ``dense_adam`` trains them as all other weights, ``sparse_adam`` and
            ``rowwise_adagrad`` train the rows of the batch only and need ``name=adam`` or ``adamw``.
        tables_lr: learning rate of tables that are trained by rows; ``None`` is ``lr``.
        tables_bias_correction: whether ``sparse_adam`` corrects the bias of the moments.
        schedule: learning rate as a function of the step.
        ema: decay of the average of the weights that is evaluated and saved; ``None``: the weights themselves are.
    """

    name: Literal["adam", "sgd", "adagrad", "adadelta", "adamw"] = "adam"
    lr: LearningRate = 1e-3
    lr_groups: RateGroups = Field(default_factory=RateGroups)
    l2: PenaltyWeight = 0.0
    weight_decay: Annotated[NonNegativeFloat, Field(le=10)] | None = None
    momentum: Beta | None = None
    tables: TableRule = "dense_adam"
    tables_lr: LearningRate | None = None
    tables_bias_correction: bool = True
    schedule: ScheduleConfig = Field(default_factory=ScheduleConfig)
    ema: Decay | None = None

    @property
    def decay(self) -> float:
        """Weight decay of the parameters whose name does not contain ``bias``: decoupled for AdamW, else coupled."""
        if self.name != "adamw":
            return self.l2
        return ADAMW_DECAY if self.weight_decay is None else self.weight_decay


def build_ranking_optimizer(net: nn.Module, config: RankingOptimConfig) -> Optimizer:
    """Return the optimiser of a network, fused if torch supports it on the device.

    Args:
        net: the network; its trainable parameters are grouped by name. Unless ``config.tables`` is ``dense_adam``,
            after ``use_row_gradients``.
        config: optimiser, learning rate, L2.

    Raises:
        StemlabError: tables are to be trained by rows, but there are none; or a group with a learning rate of its own
            is empty.
    """
    if config.tables != "dense_adam":
        return _by_rows(net, config)
    named = [(name, parameter) for name, parameter in net.named_parameters() if parameter.requires_grad]
    groups = [
        {"name": "decayed", "params": [p for name, p in named if "bias" not in name], "weight_decay": config.decay},
        {"name": "biases", "params": [p for name, p in named if "bias" in name], "weight_decay": 0.0},
    ]
    devices = {parameter.device.type for _, parameter in named}
    settings: dict[str, Any] = {"fused": True} if devices <= set(_FUSED.get(config.name, ())) else {}
    if config.momentum:
        settings["momentum"] = config.momentum
    return OPTIMIZERS[config.name](with_rates(groups, net, config.lr_groups), lr=config.lr, **settings)  # type: ignore[call-arg]


def _by_rows(net: nn.Module, config: RankingOptimConfig) -> Optimizer:
    """Return Adam for tables that are trained by rows, with L2 on the rows of the batch, and all other parameters.

    AdamW has no decay of these rows.
    """
    named = [(name, parameter) for name, parameter in net.named_parameters() if parameter.requires_grad]
    own = {id(table) for table in split_tables(net, config.tables)}
    decays = [(parameter, 0.0 if "bias" in name else config.decay) for name, parameter in named]
    groups = [
        {"name": name, "params": [p for p, l2 in decays if (id(p) in own) == rows and (not decayed) == (not l2)]}
        | {"l1": 0.0, "l2": config.l2 if decayed else 0.0, "rows_only": rows}
        | (table_settings(config.tables, config.tables_lr, config.tables_bias_correction) if rows else {})
        for name, decayed, rows in (
            ("decayed", True, False),
            ("biases", False, False),
            ("decayed rows", True, True),
            ("rows", False, True),
        )
    ]
    decoupled: dict[str, Any] = {}
    if config.name == "adamw":
        decoupled["decoupled_weight_decay"] = True
        groups = [{**group, "decay": config.decay if group["name"] == "decayed" else 0.0} for group in groups]
    fused = is_fused([parameter for _, parameter in named])
    return RowAdam(with_rates(groups, net, config.lr_groups), lr=config.lr, fused=fused, **decoupled)

"""Typed settings of the multi-task optimiser (``conf/optim/adam.yaml``), and those of both families."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass

from stemlab.optim.schedule import ScheduleConfig
from stemlab.types import LearningRate, NonNegativeFloat, PositiveFloat

Beta = Annotated[float, Field(ge=0, lt=1)]
TableRule = Literal["dense_adam", "sparse_adam", "rowwise_adagrad", "torchrec_rowwise_adagrad"]
Decay = Annotated[float, Field(gt=0, lt=1)]
MetricGain = Annotated[NonNegativeFloat, Field(le=1)]
ADAMW_DECAY = 1e-2
"""Default of ``weight_decay``, as in torch."""


@dataclass(frozen=True, kw_only=True, config=ConfigDict(extra="forbid"))
class PlateauConfig:
    """Settings of the plateau scheduler: reduce the learning rate after an epoch without improvement.

    Attributes:
        enabled: whether the learning rate is reduced at all.
        factor: the learning rate is multiplied by this factor.
        min_lr: minimum learning rate.
        threshold: an epoch improves if value >= best + threshold (value <= best - threshold if smaller is better).
    """

    enabled: bool = True
    factor: Annotated[float, Field(gt=0, lt=1)] = 0.1
    min_lr: Annotated[NonNegativeFloat, Field(le=10)] = 1e-6
    threshold: MetricGain = 1e-6


@dataclass(frozen=True, kw_only=True, config=ConfigDict(extra="forbid"))
class RateGroups:
    """Learning rates of groups of parameters; ``None`` is the learning rate of the optimiser.

    Attributes:
        tables: weights of embedding tables.
        gates: parameters of modules whose name ends with ``gate`` or ``gates``.
        dense: all other parameters.
    """

    tables: LearningRate | None = None
    gates: LearningRate | None = None
    dense: LearningRate | None = None


@dataclass(frozen=True, kw_only=True, config=ConfigDict(extra="forbid"))
class OptimConfig:
    """Settings of the optimiser, clipping, learning rates; defaults are those of the released code of STEM.

    Attributes:
        name: the optimiser.
        lr: learning rate.
        lr_groups: learning rates of groups of parameters.
        betas: decay rates of the two moments of Adam and AdamW.
        eps: added to the root of the second moment (Adam, AdamW) or of the sum of squares (Adagrad).
        weight_decay: decoupled weight decay of AdamW; ``None`` is 0.01.
        momentum: momentum of SGD; ``None`` is 0.
        exclude_bias_bn: whether the net penalty excludes biases and the parameters of normalisation layers.
        clip_norm: maximum global norm of gradient plus penalty; ``None`` disables clipping.
        tables: rule of the embedding tables: ``dense_adam`` trains them as all other weights, ``sparse_adam`` and
            ``rowwise_adagrad`` train the rows of the batch only, ``torchrec_rowwise_adagrad`` does in the backward
            pass.
        tables_lr: learning rate of tables that are trained by rows; ``None`` is ``lr``.
        tables_bias_correction: whether ``sparse_adam`` corrects the bias of the moments.
        plateau: settings of the plateau scheduler.
        schedule: learning rate as a function of the step.
        ema: decay of the average of the weights that is evaluated and saved; ``None``: the weights themselves are.
    """

    name: Literal["adam", "adamw", "adagrad", "sgd"] = "adam"
    lr: LearningRate = 1e-3
    lr_groups: RateGroups = Field(default_factory=RateGroups)
    betas: tuple[Beta, Beta] = (0.9, 0.999)
    eps: Annotated[PositiveFloat, Field(le=1)] = 1e-8
    weight_decay: Annotated[NonNegativeFloat, Field(le=10)] | None = None
    momentum: Beta | None = None
    exclude_bias_bn: bool = False
    clip_norm: PositiveFloat | None = 10.0
    tables: TableRule = "dense_adam"
    tables_lr: LearningRate | None = None
    tables_bias_correction: bool = True
    plateau: PlateauConfig = Field(default_factory=PlateauConfig)
    schedule: ScheduleConfig = Field(default_factory=ScheduleConfig)
    ema: Decay | None = None

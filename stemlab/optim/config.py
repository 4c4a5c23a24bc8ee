"""Typed settings of the multi-task optimiser (``conf/optim/adam.yaml``)."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass

from stemlab.types import LearningRate, NonNegativeFloat, PositiveFloat

Beta = Annotated[float, Field(ge=0, lt=1)]
TableRule = Literal["dense_adam", "sparse_adam", "rowwise_adagrad"]
MetricGain = Annotated[NonNegativeFloat, Field(le=1)]


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
class OptimConfig:
    """Settings of Adam, gradient clipping and plateau scheduler; defaults are those of the released code of STEM.

    Attributes:
        name: the optimiser; only ``adam``.
        lr: learning rate.
        betas: decay rates of the two moments.
        eps: added to the square root of the second moment.
        exclude_bias_bn: whether the net penalty excludes biases and the parameters of normalisation layers.
        clip_norm: maximum global norm of gradient plus penalty; ``None`` disables clipping.
        tables: rule of the embedding tables: ``dense_adam`` trains them as all other weights, ``sparse_adam`` and
            ``rowwise_adagrad`` train the rows of the batch only.
        tables_lr: learning rate of tables that are trained by rows; ``None`` is ``lr``.
        tables_bias_correction: whether ``sparse_adam`` corrects the bias of the moments.
        plateau: settings of the plateau scheduler.
    """

    name: Literal["adam"] = "adam"
    lr: LearningRate = 1e-3
    betas: tuple[Beta, Beta] = (0.9, 0.999)
    eps: Annotated[PositiveFloat, Field(le=1)] = 1e-8
    exclude_bias_bn: bool = False
    clip_norm: PositiveFloat | None = 10.0
    tables: TableRule = "dense_adam"
    tables_lr: LearningRate | None = None
    tables_bias_correction: bool = True
    plateau: PlateauConfig = Field(default_factory=PlateauConfig)

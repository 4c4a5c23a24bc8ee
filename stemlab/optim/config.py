"""Settings of the optimiser: one typed class for ``conf/optim/*.yaml``."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass

from stemlab.types import NonNegativeFloat, PositiveFloat

Beta = Annotated[float, Field(ge=0, lt=1)]


@dataclass(frozen=True, kw_only=True, config=ConfigDict(extra="forbid"))
class PlateauConfig:
    """Learning-rate cut after an epoch that did not improve the monitored metric.

    Attributes:
        enabled: whether the rate is cut at all.
        factor: multiplies the rate.
        min_lr: floor of the rate.
        threshold: an epoch improves when value >= best + threshold.
    """

    enabled: bool = True
    factor: Annotated[float, Field(gt=0, lt=1)] = 0.1
    min_lr: NonNegativeFloat = 1e-6
    threshold: NonNegativeFloat = 1e-6


@dataclass(frozen=True, kw_only=True, config=ConfigDict(extra="forbid"))
class OptimConfig:
    """Adam and what goes with it; defaults are the published ones.

    Attributes:
        name: the only optimiser so far.
        lr: learning rate.
        betas: decay of the two moments.
        eps: added to the root of the second moment.
        exclude_bias_bn: the models' penalties leave out biases, and scales and shifts of normalisations.
        clip_norm: largest global gradient norm, penalty included; ``None`` switches clipping off.
        plateau: the learning-rate cut.
    """

    name: Literal["adam"] = "adam"
    lr: PositiveFloat = 1e-3
    betas: tuple[Beta, Beta] = (0.9, 0.999)
    eps: PositiveFloat = 1e-8
    exclude_bias_bn: bool = False
    clip_norm: PositiveFloat | None = 10.0
    plateau: PlateauConfig = Field(default_factory=PlateauConfig)

"""Learning rate as a function of the step: warm-up, then constant, cosine, linear or steps (docs/optimisation.md)."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Annotated, Any, Literal

import torch
from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass
from torch import Tensor
from torch.optim import Optimizer

from stemlab.errors import StemlabError
from stemlab.types import ClosedFraction, NonNegativeInt, PositiveInt


@dataclass(frozen=True, kw_only=True, config=ConfigDict(extra="forbid"))
class ScheduleConfig:
    """Settings of the schedule, in steps of the optimiser; a factor multiplies the learning rate of every group.

    Attributes:
        name: shape after the warm-up; ``None`` is constant.
        warmup_steps: W; step t < W has the factor (t + 1) / W.
        total_steps: step at which ``cosine`` and ``linear`` reach ``final_factor``; ``None``: end of the training.
        final_factor: last factor of ``cosine`` and ``linear``.
        step_size: steps between two reductions of ``step``.
        gamma: factor of each reduction of ``step``.
    """

    name: Literal["cosine", "linear", "step"] | None = None
    warmup_steps: NonNegativeInt = 0
    total_steps: PositiveInt | None = None
    final_factor: ClosedFraction = 0.0
    step_size: PositiveInt | None = None
    gamma: Annotated[float, Field(gt=0, lt=1)] = 0.1

    @property
    def is_constant(self) -> bool:
        """Whether the factor is 1 in every step."""
        return self.name is None and self.warmup_steps == 0


class RateSchedule:
    """Sets the learning rates of an optimiser before every step.

    The key ``base_lr`` of a parameter group is its learning rate without the schedule; a plateau reduces it.

    Args:
        config: the settings.
        total_steps: steps of the whole training, read if ``config.total_steps`` is ``None``.

    Raises:
        StemlabError: the warm-up is not shorter than a schedule that ends.
    """

    def __init__(self, config: ScheduleConfig, total_steps: int) -> None:
        self.config, self.total_steps = config, config.total_steps or total_steps
        if config.name in ("cosine", "linear") and config.warmup_steps >= self.total_steps:
            raise StemlabError(
                f"optim.schedule.warmup_steps={config.warmup_steps} must be less than the {self.total_steps:,} steps "
                f"of optim.schedule.name={config.name}: lower it, or train longer."
            )

    def factor(self, step: int) -> float:
        """Return the factor of a step, from 0."""
        config = self.config
        if step < config.warmup_steps:
            return (step + 1) / config.warmup_steps
        if config.name is None:
            return 1.0
        done = step - config.warmup_steps
        if config.name == "step":
            assert config.step_size is not None  # stemlab.config.optim_checks
            return config.gamma ** (done // config.step_size)
        part = min(done / (self.total_steps - config.warmup_steps), 1.0)
        if config.name == "cosine":
            part = (1 - math.cos(math.pi * part)) / 2
        return 1.0 - (1.0 - config.final_factor) * part

    def apply(self, optimizer: Optimizer, step: int) -> None:
        """Set the learning rates of a step; a learning rate that is a tensor is overwritten in place."""
        factor = self.factor(step)
        for group in optimizer.param_groups:
            set_rate(group, base_rate(group) * factor)

    def rates(self, optimizer: Optimizer, first_step: int, steps: int) -> list[list[float]]:
        """Return the learning rates of consecutive steps, one list of the parameter groups per step."""
        bases = [base_rate(group) for group in optimizer.param_groups]
        return [[base * self.factor(first_step + i) for base in bases] for i in range(steps)]

    @contextmanager
    def base_rates(self, optimizer: Optimizer) -> Iterator[None]:
        """Set the learning rates to those without the schedule; changes within the context change ``base_lr``."""
        scheduled = [float(group["lr"]) for group in optimizer.param_groups]
        for group in optimizer.param_groups:
            set_rate(group, base_rate(group))
        yield
        for group, rate in zip(optimizer.param_groups, scheduled, strict=True):
            base, group["base_lr"] = group["base_lr"], float(group["lr"])
            set_rate(group, rate if base == group["base_lr"] else rate * group["base_lr"] / base)


def base_rate(group: dict[str, Any]) -> float:
    """Return the learning rate of a parameter group without the schedule; the first call reads it from ``lr``."""
    return float(group.setdefault("base_lr", float(group["lr"])))


def set_rate(group: dict[str, Any], rate: float) -> None:
    """Set the learning rate of a parameter group."""
    if isinstance(group["lr"], Tensor):
        group["lr"].fill_(rate)
    else:
        group["lr"] = rate


def rates_to_tensors(optimizer: Optimizer) -> list[Tensor]:
    """Make the learning rates tensors on the device, which a captured step reads, and return them."""
    for group in optimizer.param_groups:
        if not isinstance(group["lr"], Tensor):
            device = group["params"][0].device
            # the fused kernels for GPUs read float32; those for CPUs read every type
            dtype = torch.float32 if device.type == "cuda" else torch.float64
            base_rate(group)
            group["lr"] = torch.tensor(group["lr"], dtype=dtype, device=device)
    return [group["lr"] for group in optimizer.param_groups]


def rates_to_numbers(groups: Sequence[dict[str, Any]]) -> None:
    """Make the learning rates of saved parameter groups plain numbers."""
    for group in groups:
        if isinstance(group["lr"], Tensor):
            group["lr"] = float(group["lr"])

"""Numbers of optimiser steps of a training, and the schedule of its learning rates."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from stemlab.lightning.multitask import MultiTaskModule
from stemlab.lightning.sequential import SequentialModule
from stemlab.optim import RateSchedule


def total_steps(trainer: Mapping[str, Any], steps_per_epoch: int) -> int:
    """Return the maximum number of steps of a training.

    Args:
        trainer: group ``trainer`` of the config.
        steps_per_epoch: optimiser steps of an epoch.
    """
    return int(trainer["max_epochs"]) * steps_per_epoch


def rate_schedule(
    trainer: Mapping[str, Any], module: MultiTaskModule | SequentialModule, steps_per_epoch: int
) -> RateSchedule | None:
    """Return the schedule of ``optim.schedule``, or None if the learning rate is constant or nothing is trained.

    Raises:
        StemlabError: the warm-up is not shorter than a schedule that ends.
    """
    config = module.settings.optim.schedule
    if config.is_constant or not steps_per_epoch:
        return None
    return RateSchedule(config, total_steps(trainer, steps_per_epoch))

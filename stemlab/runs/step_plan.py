"""Numbers of optimiser steps of a training, and the schedule of its learning rates."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from stemlab.lightning.multitask import MultiTaskModule
from stemlab.lightning.sequential import SequentialModule
from stemlab.optim import RateSchedule


def steps_per_epoch(trainer: Mapping[str, Any], batches: int) -> int:
    """Return the optimiser steps of an epoch; the last one may accumulate fewer batches."""
    return -(-batches // int(trainer["accumulate_grad_batches"]))


def total_steps(trainer: Mapping[str, Any], steps: int) -> int:
    """Return the maximum number of steps of a training.

    Args:
        trainer: group ``trainer`` of the config.
        steps: optimiser steps of an epoch.
    """
    all_epochs = int(trainer["max_epochs"]) * steps
    return all_epochs if trainer["max_steps"] is None else min(all_epochs, int(trainer["max_steps"]))


def rate_schedule(
    trainer: Mapping[str, Any], module: MultiTaskModule | SequentialModule, steps: int
) -> RateSchedule | None:
    """Return the schedule of ``optim.schedule``, or None if the learning rate is constant or nothing is trained.

    Raises:
        StemlabError: the warm-up is not shorter than a schedule that ends.
    """
    config = module.settings.optim.schedule
    if config.is_constant or not steps:
        return None
    return RateSchedule(config, total_steps(trainer, steps))

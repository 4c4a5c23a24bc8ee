"""Refuse settings of the optimiser that nothing reads or that contradict each other (docs/optimisation.md)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from stemlab.config.validation_messages import Origin
from stemlab.errors import StemlabError

_READ_BY = {
    "weight_decay": ("adamw",),
    "momentum": ("sgd",),
    "betas": ("adam", "adamw"),
    "eps": ("adam", "adamw", "adagrad"),
}
"""Setting -> the optimisers that read it."""
_SHAPE = {
    "total_steps": ("cosine", "linear"),
    "final_factor": ("cosine", "linear"),
    "step_size": ("step",),
    "gamma": ("step",),
}
"""Setting of the schedule -> the schedules that read it."""


def check_optimizer(optim: Any, origin: Origin) -> None:
    """Refuse settings of another optimiser or schedule, and two settings of one learning rate.

    Args:
        optim: typed settings, of either family.
        origin: returns where a key was set.

    Raises:
        StemlabError: the first such setting.
    """
    for key, names in _READ_BY.items():
        if hasattr(optim, key) and getattr(optim, key) != getattr(type(optim)(), key) and optim.name not in names:
            raise StemlabError(
                f"optim.{key}={getattr(optim, key)} ({origin(f'optim.{key}')}) is read by optim.name="
                f"{' or '.join(names)}, but it is {optim.name} ({origin('optim.name')})."
            )
    if optim.name == "adamw" and getattr(optim, "l2", 0):
        raise StemlabError(
            f"optim.l2={optim.l2} ({origin('optim.l2')}) is part of the gradient, and optim.name=adamw has a weight "
            "decay beside it: set optim.weight_decay and leave out optim.l2."
        )
    if optim.tables_lr is not None and optim.lr_groups.tables is not None:
        key = "optim.tables_lr"
        raise StemlabError(
            f"{key}={optim.tables_lr} ({origin(key)}) and optim.lr_groups.tables={optim.lr_groups.tables} "
            f"({origin('optim.lr_groups.tables')}) are both the learning rate of the tables: set one of them."
        )
    _check_schedule(optim, origin)


def _check_schedule(optim: Any, origin: Origin) -> None:
    schedule, key = optim.schedule, "optim.schedule.name"
    for name, shapes in _SHAPE.items():
        value = getattr(schedule, name)
        if value != getattr(type(schedule)(), name) and schedule.name not in shapes:
            raise StemlabError(
                f"optim.schedule.{name}={value} ({origin(f'optim.schedule.{name}')}) is read by {key}="
                f"{' or '.join(shapes)}, but it is {_shown(schedule.name)} ({origin(key)})."
            )
    if schedule.name == "step" and schedule.step_size is None:
        raise StemlabError(
            f"{key}=step ({origin(key)}) needs optim.schedule.step_size, the steps between two reductions."
        )
    plateau = getattr(optim, "plateau", None)
    if schedule.name is not None and plateau is not None and plateau.enabled:
        raise StemlabError(
            f"{key}={schedule.name} ({origin(key)}) and optim.plateau.enabled=true ({origin('optim.plateau.enabled')}) "
            "both reduce the learning rate: set optim.plateau.enabled=false."
        )


def check_average(config: Mapping[str, Any], origin: Origin) -> None:
    """Refuse an average of the weights together with what would evaluate other weights."""
    ema, key = config["optim"].get("ema"), "callbacks.paper_selection"
    if ema is not None and config.get("callbacks", {}).get("paper_selection"):
        raise StemlabError(
            f"optim.ema={ema} ({origin('optim.ema')}) and {key}=true ({origin(key)}) do not fit together: the "
            "selection evaluates the trained weights, not their average; leave out one of them."
        )


def check_divided_tables(config: Mapping[str, Any]) -> str | None:
    """Return why tables divided among processes cannot be trained with these settings, or None if they can."""
    if config["optim"].get("ema") is not None:
        return "the average of divided tables is not supported: set optim.ema=null"
    if (name := config["optim"].get("name", "adam")) != "adam":
        return f"divided tables are trained by Adam only: set optim.name=adam instead of {name}"
    return None


def _shown(value: Any) -> str:
    return "null" if value is None else str(value)

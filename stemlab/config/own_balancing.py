"""A balancing method of the user: ``model.balancing._target_=my_balancing.Slowest`` (docs/own/balancing.md)."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping
from typing import Any

from stemlab.balancing_methods import GRADIENT_METHODS
from stemlab.config.instantiate import TARGET, check_settings, import_target
from stemlab.config.own_class import constructor_problems, missing_settings
from stemlab.config.validation_messages import Origin
from stemlab.errors import StemlabError

KEY = "model.balancing"
_METHODS = {"LossWeighting": "weigh", "GradientWeighting": "weigh", "GradientAggregator": "aggregate"}
"""Base class -> its abstract method."""
_PAGE = "docs/own/balancing.md"


def gradient_method(model: Mapping[str, Any]) -> str | None:
    """Return the method in the group ``model`` of a config if it computes one gradient per task, else None."""
    chosen = model.get("balancing")
    if not isinstance(chosen, Mapping):
        return chosen if chosen in GRADIENT_METHODS else None
    target = import_target(chosen, key=KEY)
    return target.__name__ if getattr(target, "gradient_per_task", False) else None


def check_own_balancing(config: Mapping[str, Any], origin: Origin) -> None:
    """Refuse a class that is no balancing method, and wrong settings of it.

    Raises:
        StemlabError: the message names everything that the class lacks.
    """
    node = config["model"].get("balancing")
    if not isinstance(node, Mapping):
        return
    target = import_target(node, key=KEY, origin=origin)
    if found := [*_problems(target), *missing_settings(node, KEY, origin)]:
        where = f"{KEY}.{TARGET}={node[TARGET]} ({origin(f'{KEY}.{TARGET}')})"
        raise StemlabError(f"{where}: {'; '.join(found)}; see {_PAGE}.")
    check_settings(node, key=KEY, origin=origin)
    rule = config.get("optim", {}).get("tables", "dense_adam")
    if hasattr(target, "aggregate") and rule != "dense_adam":
        raise StemlabError(
            f"{KEY}.{TARGET}={node[TARGET]} combines the gradients of whole tables, and optim.tables={rule} "
            f"({origin('optim.tables')}) has those of some rows: set optim.tables=dense_adam."
        )


def _problems(target: Any) -> Iterator[str]:
    """Yield what a method lacks."""
    if not inspect.isclass(target) or not any(hasattr(target, name) for name in _METHODS.values()):
        yield f"it is not a class derived from {' or '.join(_METHODS)} of stemlab.lightning.balancing"
        return
    if missing := sorted(getattr(target, "__abstractmethods__", ())):
        yield f"it lacks {', '.join(missing)}"
    yield from constructor_problems(target, ("tasks",))

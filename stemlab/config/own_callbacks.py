"""Callbacks of the user: ``callbacks.own.<name>._target_=my_callbacks.TimeLimit`` (docs/own/callback.md)."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping
from typing import Any

from stemlab.config.instantiate import TARGET, check_settings, import_target, instantiate
from stemlab.config.validation_messages import Origin, unknown_origin
from stemlab.errors import StemlabError

KEY = "callbacks.own"
_PAGE = "docs/own/callback.md"


def own_nodes(config: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Yield key and node of each callback of the user."""
    nodes = config.get("callbacks", {}).get("own") or {}
    yield from ((f"{KEY}.{name}", node) for name, node in nodes.items() if node)


def check_own_callbacks(config: Mapping[str, Any], origin: Origin) -> None:
    """Refuse callbacks that are no callbacks of Lightning, and wrong settings of them.

    Raises:
        StemlabError: the first such callback.
    """
    for key, node in own_nodes(config):
        target = import_target(node, key=key, origin=origin)
        from pytorch_lightning import Callback

        if not inspect.isclass(target) or not issubclass(target, Callback):
            raise StemlabError(
                f"{key}.{TARGET}={node[TARGET]} ({origin(f'{key}.{TARGET}')}) is not a class derived from "
                f"pytorch_lightning.Callback, see {_PAGE}."
            )
        check_settings(node, key=key, origin=origin)


def build_own_callbacks(config: Mapping[str, Any]) -> list[Any]:
    """Return the callbacks of the user, in the order of the config."""
    return [instantiate(node, key=key, origin=unknown_origin) for key, node in own_nodes(config)]

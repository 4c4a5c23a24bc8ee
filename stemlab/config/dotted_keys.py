"""Values of nested settings by their dotted key."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def value_at(config: Mapping[str, Any], key: str) -> Any:
    """Return the value of a key such as ``model.net.embedding_dim``; None if there is none."""
    value: Any = config
    for part in key.split("."):
        value = value.get(part) if isinstance(value, Mapping) else None
    return value


def node_of(config: Mapping[str, Any], key: str) -> tuple[Any, str]:
    """Return the node that has or would have a key (None if there is none), and the last name of the key."""
    parent, _, name = key.rpartition(".")
    return value_at(config, parent) if parent else config, name

"""Faster copies and merges of OmegaConf's nodes: composing a config copies thousands, and most tests compose."""

from __future__ import annotations

import copy
from collections import defaultdict
from typing import Any

from omegaconf import AnyNode, BooleanNode, DictConfig, EnumNode, FloatNode, IntegerNode, ListConfig, StringNode
from omegaconf.base import Box, Metadata, Node

from tests.replaced import replace_function

COPIED = (AnyNode, BooleanNode, EnumNode, FloatNode, IntegerNode, StringNode, DictConfig, ListConfig)
"""Kinds of nodes that are copied here; OmegaConf copies the others."""


def copy_nodes_faster() -> None:
    """Replace OmegaConf's copies of values, dictionaries and lists in this process by equal ones."""
    for kind in COPIED:
        replace_function(kind, "__deepcopy__", _copied)
    replace_function(Box, "_re_parent", _set_parents)


def _copied(node: Any, memo: dict[int, Any] | None = None) -> Any:
    """Return a copy of a node and of the nodes below it; its parent is the same (as in OmegaConf)."""
    new = object.__new__(type(node))
    state = new.__dict__
    state.update(node.__dict__)
    state["_metadata"] = _copied_metadata(state["_metadata"])
    content = state.get("_content")
    if isinstance(content, dict):
        state["_content"] = {key: _child(value, new) for key, value in content.items()}
    elif isinstance(content, list):
        state["_content"] = [_child(value, new) for value in content]
    if "_content" not in state:
        state["_flags_cache"] = None
    elif state["_flags_cache"] is not None:
        state["_flags_cache"] = dict(state["_flags_cache"])
    return new


def _child(node: Any, parent: Any) -> Any:
    if type(node) in COPIED:
        new = _copied(node)
    else:
        old, node.__dict__["_parent"] = node.__dict__["_parent"], None
        try:
            new = copy.deepcopy(node)
        finally:
            node.__dict__["_parent"] = old
    new.__dict__["_parent"] = parent
    return new


def _copied_metadata(metadata: Metadata) -> Metadata:
    new = object.__new__(type(metadata))
    state = new.__dict__
    state.update(metadata.__dict__)
    if state["flags"] is not None:
        state["flags"] = dict(state["flags"])
    cached = state["resolver_cache"]
    state["resolver_cache"] = copy.deepcopy(cached) if cached else defaultdict(dict)
    return new


def _set_parents(node: Any) -> None:
    """Set the parent of each node below a node, and clear the flags that they have from their parents."""
    content = node.__dict__["_content"]
    if isinstance(content, dict):
        below = [*content.values()]
    elif isinstance(content, list):
        below = content
    else:
        below = [content] if isinstance(content, Node) else []
    for value in below:
        if value is not None:
            state = value.__dict__
            state["_parent"], state["_flags_cache"] = node, None
            if "_content" in state:
                _set_parents(value)

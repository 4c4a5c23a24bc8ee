"""Refuse arguments ``~key`` that remove a setting: its default would be used, and the record would not have it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from stemlab.config.dotted_keys import node_of
from stemlab.errors import StemlabError

# Mappings with names that the user chooses: an entry can be removed.
_OPEN = frozenset(
    {"callbacks.own", "metrics.own", "dataset.labels", "dataset.derived", "dataset.multivalued"}
    | {"dataset.sequences", "dataset.shared", "model.pretrained", "analysis.parts"}
)


def check_removed_settings(config: Mapping[str, Any], overrides: Sequence[str]) -> None:
    """Refuse ``~section.key`` unless another argument adds the key again or it is an entry of an open mapping.

    Raises:
        StemlabError: names the argument and what to do instead.
    """
    for word in overrides:
        if not word.startswith("~"):
            continue
        key = word[1:].partition("=")[0]
        node, name = node_of(config, key)
        parent = key.rpartition(".")[0]
        if parent and parent not in _OPEN and isinstance(node, Mapping) and name not in node:
            raise StemlabError(
                f"{word}: a setting cannot be removed, because its default would not be in the record. "
                f"Give it a value instead: {key}=..."
            )

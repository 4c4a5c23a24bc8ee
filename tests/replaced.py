"""Functions of libraries that the tests replace by faster ones with the same results."""

from __future__ import annotations

from typing import Any

REPLACED: list[tuple[Any, str, Any]] = []
"""Owner, name and original of each replaced function."""


def replace_function(owner: Any, name: str, new: Any) -> None:
    """Replace an attribute of a module or class in this process."""
    REPLACED.append((owner, name, getattr(owner, name)))
    setattr(owner, name, new)

"""Files of ``conf/`` joined with their base files, read without Hydra."""

from __future__ import annotations

import copy
from functools import cache
from pathlib import Path
from typing import Any

import yaml

CONF = Path(__file__).resolve().parents[1] / "conf"


def option_names(group: str) -> list[str]:
    """Return the options of a group without subfolders; base files (``_multitask.yaml``) are no options."""
    return sorted(path.stem for path in (CONF / group).glob("[!_]*.yaml"))


def read_option(group: str, name: str) -> dict[str, Any]:
    """Return the settings of ``conf/<group>/<name>.yaml``, those of its base file included."""
    own = read_yaml(group, name)
    joined: dict[str, Any] = {}
    for entry in own.pop("defaults", []):
        if isinstance(entry, str) and entry.startswith("_") and entry != "_self_":
            joined |= read_yaml(group, entry)
    joined.pop("defaults", None)
    return joined | own


def read_yaml(group: str, name: str) -> dict[str, Any]:
    """Return the settings of the file alone."""
    return copy.deepcopy(_read(CONF / group / f"{name}.yaml"))


@cache
def _read(path: Path) -> dict[str, Any]:
    values: dict[str, Any] = yaml.safe_load(path.read_text(encoding="utf-8"))
    return values


def model_names() -> list[str]:
    """Return the options of the group ``model`` that name a network."""
    return [name for name in option_names("model") if not name.startswith("own")]  # they need a class of the user


def model_config(name: str) -> dict[str, Any]:
    """Return the settings of a model."""
    return read_option("model", name)

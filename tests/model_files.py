"""Files of ``conf/model`` joined with their base file, read without Hydra."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

FOLDER = Path(__file__).resolve().parents[1] / "conf" / "model"


def model_names() -> list[str]:
    """Return the options of the group ``model``; base files (``_multitask.yaml``) are none."""
    return sorted(path.stem for path in FOLDER.glob("[!_]*.yaml"))


def model_config(name: str) -> dict[str, Any]:
    """Return the settings of ``conf/model/<name>.yaml``, those of its base file included."""
    own = read_yaml(name)
    joined: dict[str, Any] = {}
    for entry in own.pop("defaults"):
        if entry != "_self_":
            joined |= read_yaml(entry)
    joined.pop("defaults", None)
    return joined | own


def read_yaml(name: str) -> dict[str, Any]:
    """Return what the file alone holds."""
    values: dict[str, Any] = yaml.safe_load((FOLDER / f"{name}.yaml").read_text())
    return values

"""Complete the config of a run record: a setting that the record lacks counts as its default in ``conf/``.

Settings are added to stemlab over time with defaults that leave earlier results valid, and dropped when no code reads
them. So records that were written before and after such a change can be compared in one table.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from stemlab.config.conf_dir import conf_dir


def complete(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return a recorded config with the defaults of the settings it lacks, without settings that no longer exist."""
    sequential = "tasks" not in config["dataset"]
    files = {
        "trainer": "trainer/cpu.yaml",
        "callbacks": f"callbacks/{'ranking' if sequential else 'default'}.yaml",
        "optim": f"optim/{'ranking' if sequential else 'adam'}.yaml",
    }
    completed = dict(config)
    for group, file in files.items():
        default = read_option(file)
        own = {key: value for key, value in config.get(group, {}).items() if key in default}
        completed[group] = _merged(default, own)
    completed["dataset"] = _merged(read_option(f"dataset/{config['dataset'].get('name')}.yaml"), config["dataset"])
    completed["model"] = _merged(_default_model(config["model"], sequential), config["model"])
    return completed


def _default_model(model: Mapping[str, Any], sequential: bool) -> Mapping[str, Any]:
    """Return the file of ``conf/model`` with the same network (preferably the same name), or else the base file."""
    target = model.get("net", {}).get("_target_")
    names = [f"{model.get('name')}.yaml", *sorted(path.name for path in (conf_dir() / "model").glob("[!_]*.yaml"))]
    files = [read_option(f"model/{name}") for name in names]
    base = read_option(f"model/{'_sequential' if sequential else '_multitask'}.yaml")
    return next((file for file in files if target is not None and file.get("net", {}).get("_target_") == target), base)


def _merged(default: Mapping[str, Any], own: Mapping[str, Any]) -> dict[str, Any]:
    """Return ``own`` completed by ``default``, depth first; defaults that are interpolations are left out."""
    merged = dict(own)
    for key, value in default.items():
        if isinstance(value, Mapping) and isinstance(own.get(key, {}), Mapping):
            merged[key] = _merged(value, own.get(key, {}))
        elif key not in own and not _is_interpolation(value):
            merged[key] = value
    return merged


@cache
def read_option(name: str) -> Mapping[str, Any]:
    """Return the settings of a file of ``conf/``, such as ``trainer/cpu.yaml``, with those of its base file.

    Empty if there is no such file.
    """
    path: Path = conf_dir() / name
    values: dict[str, Any] = yaml.safe_load(path.read_text(encoding="utf-8")) if path.is_file() else {}
    joined: dict[str, Any] = {}
    for entry in values.pop("defaults", []):
        if isinstance(entry, str) and entry.startswith("_") and entry != "_self_":
            joined |= read_option(f"{path.parent.name}/{entry}.yaml")
    return joined | values


def _is_interpolation(value: Any) -> bool:
    return isinstance(value, str) and "${" in value

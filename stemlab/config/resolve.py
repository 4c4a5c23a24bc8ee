"""From the composed config to plain Python values, and the hash that names a config."""

from __future__ import annotations

import copy
import hashlib
import json
import os
from collections.abc import Mapping
from typing import Any, cast

from omegaconf import DictConfig, OmegaConf

# What may differ between two runs of the same experiment: where files are, how the run is shown and watched, how it was
# started.
NOT_HASHED = ("paths", "logger", "tags", "ckpt_path", "hydra", "raw_dir", "data_dir", "diagnostics")


def resolve(config: DictConfig | Mapping[str, Any]) -> dict[str, Any]:
    """Return the config as nested plain dicts and lists, interpolations filled in, paths absolute.

    Nothing of OmegaConf leaves a command: such objects inside a checkpoint cannot be loaded safely.

    Args:
        config: what Hydra composed, or a dict that is plain already.

    Raises:
        omegaconf.errors.MissingMandatoryValue: a value is still ``???``.
    """
    if not isinstance(config, DictConfig):
        return copy.deepcopy(dict(config))
    config = copy.deepcopy(config)
    OmegaConf.set_readonly(config, False)
    for name in config.get("paths") or {}:
        config.paths[name] = os.path.abspath(config.paths[name])
    return cast("dict[str, Any]", OmegaConf.to_container(config, resolve=True, throw_on_missing=True))


def flatten(config: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return nested settings under dotted keys (``model.net.embedding_dim``)."""
    flat: dict[str, Any] = {}
    for key, value in config.items():
        if isinstance(value, Mapping):
            flat |= flatten(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = value
    return flat


def config_hash(config: Mapping[str, Any]) -> str:
    """Return 16 hexadecimal digits that are equal for equal experiments.

    Paths, loggers, tags and the checkpoint to resume from do not count, at the top level or inside a group.
    """
    kept = {key: _without_paths(value) for key, value in config.items() if key not in NOT_HASHED}
    text = json.dumps(kept, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _without_paths(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: item for key, item in value.items() if key not in NOT_HASHED}
    return value

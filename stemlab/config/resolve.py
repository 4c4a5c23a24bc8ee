"""Convert the composed config to plain Python values, flatten it, hash it."""

from __future__ import annotations

import copy
import hashlib
import json
import os
from collections.abc import Mapping
from typing import Any, cast

from omegaconf import DictConfig, OmegaConf

from stemlab.config.cross_checks import effective_tasks
from stemlab.config.objective_checks import monitor_regression
from stemlab.config.own_class import with_defaults
from stemlab.config.own_metrics import complete_own_metrics, own_directions
from stemlab.config.single_values import single_values_as_lists
from stemlab.config.table_rules import penalise_rows_of_batch
from stemlab.metric_directions import metric_direction

# Settings that do not change results: paths, logging, diagnostics, how the run was started.
NOT_HASHED = (
    *("paths", "logger", "tags", "ckpt_path", "hydra", "raw_dir", "data_dir", "residence", "diagnostics"),
    *("capture", "embedding", "loop", "num_nodes", "resume", "resume_from", "overwrite", "allow", "save_scores"),
    *("sweep", "dry_run", "launcher", "metrics"),
)


def resolve(config: DictConfig | Mapping[str, Any]) -> dict[str, Any]:
    """Return the config as nested plain dicts and lists, with interpolations resolved and absolute paths.

    Classes of the user get the defaults of their signatures. In ``callbacks``, a ``mode`` of null is replaced by the
    direction of the monitor. In a config composed by Hydra, a single value of a list setting becomes a
    list of one (a recorded config has only lists), and tables that are trained by rows are penalised by rows, unless
    the command line sets the mode of the penalty. If all trained tasks are regression, the default monitor is
    ``val/rmse``.

    Configs are stored in checkpoints, and objects of OmegaConf in a checkpoint cannot be loaded with ``weights_only``.

    Args:
        config: composed by Hydra, or already a plain dict.

    Raises:
        omegaconf.errors.MissingMandatoryValue: a value is still ``???``.
    """
    if not isinstance(config, DictConfig):
        return _with_modes(copy.deepcopy(dict(config)))
    config = copy.deepcopy(config)
    OmegaConf.set_readonly(config, False)
    for name in config.get("paths") or {}:
        if isinstance(config.paths[name], str) and config.paths[name]:  # the validation refuses other values
            config.paths[name] = os.path.abspath(config.paths[name])
    plain = cast("dict[str, Any]", OmegaConf.to_container(config, resolve=True, throw_on_missing=True))
    plain = complete_own_metrics(with_defaults(plain))
    penalise_rows_of_batch(plain)
    _monitor_regression(plain)
    return _with_modes(single_values_as_lists(plain))


def _monitor_regression(plain: dict[str, Any]) -> None:
    """Monitor ``val/rmse`` if all trained tasks are regression, unless the command line sets the monitor."""
    dataset, model = plain.get("dataset"), plain.get("model")
    if isinstance(dataset, dict) and isinstance(model, dict) and dataset.get("labels") and dataset.get("tasks"):
        monitor_regression(plain, effective_tasks(plain))


def _with_modes(plain: dict[str, Any]) -> dict[str, Any]:
    """Set each ``mode`` in ``callbacks`` that is null to the direction of its monitor."""
    callbacks = plain.get("callbacks")
    for node in callbacks.values() if isinstance(callbacks, dict) else ():
        if isinstance(node, dict) and node.get("mode", "") is None and isinstance(node.get("monitor"), str):
            node["mode"] = metric_direction(node["monitor"], own_directions(plain))
    return plain


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
    """Return 16 hexadecimal digits, equal for configs that give equal results.

    Keys of ``NOT_HASHED`` are ignored at the top level and one level below.
    """
    kept = {key: _hashed_part(value) for key, value in config.items() if key not in NOT_HASHED}
    text = json.dumps(kept, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _hashed_part(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: item for key, item in value.items() if key not in NOT_HASHED}
    return value

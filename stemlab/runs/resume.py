"""Whether a checkpoint can be gone on with."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from stemlab.config.cross_checks import effective_stage
from stemlab.errors import StemlabError
from stemlab.runs.checkpoint_io import SavedRun, read_checkpoint

# What must be as it was. The rest (epochs, patience, logger, threads, learning rate ...) may be chosen anew.
_FIXED_KEYS = (
    *("model.net", "model.task", "model.scenario_feature", "seed"),
    *("dataset.tasks", "dataset.fields", "dataset.batch_size"),
    *("dataset.history_max", "dataset.num_negatives", "dataset.train_negatives"),
)


def check_resumable(config: Mapping[str, Any], fingerprint: str) -> SavedRun:
    """Refuse to resume a run of another network, other data or another order of the rows; return what it left.

    Args:
        config: of the run about to start; ``ckpt_path`` names the checkpoint.
        fingerprint: of its prepared dataset.

    Raises:
        StemlabError: naming the first difference.
    """
    saved = read_checkpoint(config["ckpt_path"])
    old, new = effective_stage(saved.config), effective_stage(config)
    if old != new:
        raise StemlabError(
            f"cannot resume {saved.path}: it is of stage {old}, and ckpt_path is for stage {new} here; "
            "model.stage=pretrain goes on with a first stage, model.init_from begins a second one with it."
        )
    for key in _FIXED_KEYS:
        for name, old, new in config_differences(_value_at(saved.config, key), _value_at(config, key), key):
            raise StemlabError(f"cannot resume {saved.path}: its run had {name}={old}, this one has {new}.")
    if saved.fingerprint != fingerprint:
        raise StemlabError(
            f"cannot resume {saved.path}: it was trained on prepared dataset {saved.fingerprint[:12]}, and the one of "
            f"this config is {fingerprint[:12]} (other raw files, split or vocabulary)."
        )
    return saved


def _value_at(config: Mapping[str, Any], key: str) -> Any:
    value: Any = config
    for part in key.split("."):
        value = value.get(part) if isinstance(value, Mapping) else None
    return value


def config_differences(old: Any, new: Any, key: str) -> Iterator[tuple[str, Any, Any]]:
    """Yield (key, old value, new value) for everything that differs, depth first."""
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        for name in [*old, *(name for name in new if name not in old)]:
            yield from config_differences(old.get(name), new.get(name), f"{key}.{name}")
    elif old != new:
        yield key, old, new

"""Check that a run can resume from a checkpoint."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from stemlab.config.cross_checks import effective_stage
from stemlab.errors import StemlabError
from stemlab.runs.checkpoint_io import SavedRun, read_checkpoint

# Keys that must not change. Others (epochs, patience, logger, threads, learning rate ...) may change.
_FIXED_KEYS = (
    *("model.net", "model.task", "model.scenario_feature", "seed"),
    *("dataset.tasks", "dataset.fields", "dataset.batch_size"),
    *("dataset.history_max", "dataset.num_negatives", "dataset.train_negatives"),
)


def check_resumable(config: Mapping[str, Any], fingerprint: str) -> SavedRun:
    """Return the checkpoint to resume from, after checking that network, data and order of the samples are the same.

    Args:
        config: config of the new run; ``ckpt_path`` is the checkpoint.
        fingerprint: fingerprint of its prepared dataset.

    Raises:
        StemlabError: they differ; the message names the first differing key.
    """
    saved = read_checkpoint(config["ckpt_path"])
    old, new = effective_stage(saved.config), effective_stage(config)
    if old != new:
        raise StemlabError(
            f"cannot resume {saved.path}: it belongs to stage {old}, but ckpt_path resumes stage {new} here; "
            "model.stage=pretrain resumes a first stage, model.init_from=... starts a second stage from it."
        )
    for key in _FIXED_KEYS:
        for name, old, new in config_differences(_value_at(saved.config, key), _value_at(config, key), key):
            raise StemlabError(f"cannot resume {saved.path}: it was trained with {name}={old}, this run has {new}.")
    if saved.fingerprint != fingerprint:
        raise StemlabError(
            f"cannot resume {saved.path}: it was trained on prepared dataset {saved.fingerprint[:12]}, this config "
            f"gives {fingerprint[:12]} (other raw files, split or vocabulary)."
        )
    return saved


def _value_at(config: Mapping[str, Any], key: str) -> Any:
    value: Any = config
    for part in key.split("."):
        value = value.get(part) if isinstance(value, Mapping) else None
    return value


def config_differences(old: Any, new: Any, key: str) -> Iterator[tuple[str, Any, Any]]:
    """Yield (dotted key, old value, new value) for every difference, depth first."""
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        for name in [*old, *(name for name in new if name not in old)]:
            yield from config_differences(old.get(name), new.get(name), f"{key}.{name}")
    elif old != new:
        yield key, old, new

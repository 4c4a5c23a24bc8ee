"""Check that a run can resume from a checkpoint, and which settings changed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from stemlab.config.cross_checks import effective_stage
from stemlab.config.dotted_keys import value_at
from stemlab.config.job_process import process_count
from stemlab.errors import StemlabError
from stemlab.reporting.recorded_config import complete
from stemlab.runs.checkpoint_io import SavedRun, read_checkpoint

MAY_CHANGE = (
    *("resume", "resume_from", "overwrite", "ckpt_path", "allow", "paths", "logger", "tags", "test", "objective"),
    "save_scores",
    *("optim.lr", "optim.betas", "optim.eps", "optim.clip_norm", "optim.plateau", "optim.l2"),
    *("optim.tables_lr", "optim.tables_bias_correction", "optim.weight_decay", "optim.momentum", "optim.schedule"),
    *("model.embedding_regularizer", "model.embedding_regularizer_mode", "model.net_regularizer"),
    *("model.allow_scratch", "model.max_epochs", "model.beyond_accuracy", "metrics", "sweep", "launcher", "dry_run"),
    *("trainer.name", "trainer.accelerator", "trainer.devices", "trainer.process_group_backend", "trainer.precision"),
    *("trainer.max_steps", "trainer.val_check_interval"),
    *("trainer.max_epochs", "trainer.log_every_n_steps", "trainer.threads", "trainer.deterministic"),
    *("trainer.limit_test_batches", "trainer.compile", "trainer.kernels", "trainer.capture"),
    *("trainer.embedding", "trainer.num_nodes", "trainer.loop"),
    *("callbacks.early_stop.enabled", "callbacks.early_stop.patience", "callbacks.early_stop.window"),
    *("callbacks.early_stop.min_delta", "callbacks.checkpoint.save_last", "callbacks.diagnostics"),
    *("callbacks.progress", "dataset.raw_dir", "dataset.data_dir", "dataset.eval_batch_size", "dataset.download"),
    *("dataset.reading", "dataset.window_rows"),  # not within an epoch: the loader compares its state
)
"""Settings that a resumed run may change, with those below them; every one of them takes effect."""

_NOT_IN_FINGERPRINT = (
    *("tasks", "fields", "batch_size", "seed", "history_max", "num_negatives", "train_negatives", "times"),
    "evaluation",
)
"""Settings of the dataset that no fingerprint contains: they select or order what is read."""


def check_resumable(config: Mapping[str, Any], fingerprint: str, checkpoint: Path) -> tuple[SavedRun, dict[str, Any]]:
    """Check that a run can resume from a checkpoint: same network, data and order of the samples.

    Args:
        config: config of the new run.
        fingerprint: fingerprint of its prepared dataset.
        checkpoint: the checkpoint to resume from.

    Returns:
        The checkpoint, and the settings that changed: dotted key -> [old, new].

    Raises:
        StemlabError: a setting differs that must not change; the message names the first one.
    """
    saved = read_checkpoint(checkpoint)
    old, new = effective_stage(saved.config), effective_stage(config)
    if old != new:
        raise StemlabError(
            f"cannot resume {saved.path}: it belongs to stage {old}, but ckpt_path resumes stage {new} here; "
            "model.stage=pretrain resumes a first stage, model.init_from=... starts a second stage from it."
        )
    changed: dict[str, Any] = {}
    for name, old, new in changed_settings(saved.config, config):
        if not may_change(name):
            raise StemlabError(
                f"cannot resume {saved.path}: it was trained with {name}={old}, this run has {new}; "
                "this setting cannot change in a resumed run."
            )
        if not name.startswith(("resume", "overwrite", "ckpt_path", "allow", "paths.", "sweep")):
            changed[name] = [old, new]
    if saved.fingerprint != fingerprint:
        raise StemlabError(
            f"cannot resume {saved.path}: it was trained on prepared dataset {saved.fingerprint[:12]}, this config "
            f"gives {fingerprint[:12]} (other raw files, split or vocabulary)."
        )
    _check_position(saved, config)
    return saved, changed


def changed_settings(config: Mapping[str, Any], new: Mapping[str, Any]) -> Iterator[tuple[str, Any, Any]]:
    """Yield (dotted key, old value, new value) for every setting of a run that a new config changes.

    A setting that is newer than the run and has its default is not changed.
    """
    completed = complete(config)
    for key, before, after in config_differences(config, new):
        if before is not None or value_at(completed, key) != after:
            yield key, before, after


@contextmanager
def misfit_refused(checkpoint: Path | None) -> Iterator[None]:
    """Refuse a checkpoint whose weights do not fit the network, such as after a change of the code of its class.

    Args:
        checkpoint: the checkpoint from which the block resumes, if any.
    """
    try:
        yield
    except RuntimeError as error:
        if checkpoint is None or "loading state_dict" not in str(error):
            raise
        reason = " ".join(str(error).split())[:300]
        raise StemlabError(
            f"cannot resume {checkpoint}: its weights do not fit the network of this run ({reason}); if the code of a "
            "class was changed, start another run."
        ) from None


def may_change(key: str) -> bool:
    """Return whether a resumed run may change a setting (dotted key)."""
    group, _, rest = key.partition(".")
    if group == "dataset" and rest.partition(".")[0] not in _NOT_IN_FINGERPRINT:
        return True  # the fingerprint decides
    if key.startswith("dataset.evaluation.topk"):
        return True
    return any(f"{key}.".startswith(f"{name}.") for name in MAY_CHANGE)


def _check_position(saved: SavedRun, config: Mapping[str, Any]) -> None:
    """Check what depends on how far the run is: the number of epochs, and the processes within an epoch."""
    epochs, done = config["trainer"]["max_epochs"], saved.epoch + (not saved.mid_epoch)
    if epochs < done:
        raise StemlabError(
            f"cannot resume {saved.path} with trainer.max_epochs={epochs}: {done} epochs are trained; give {done} or "
            "more, or start another run."
        )
    if not saved.mid_epoch:
        return
    old, new = process_count(saved.config["trainer"]), process_count(config["trainer"])
    if old != new:
        raise StemlabError(
            f"cannot resume {saved.path} on {new} processes: it was written within epoch {saved.epoch + 1} on {old}; "
            f"resume with trainer.devices={old}, or from the checkpoint of a complete epoch."
        )


def config_differences(old: Any, new: Any, key: str = "") -> Iterator[tuple[str, Any, Any]]:
    """Yield (dotted key, old value, new value) for every difference, depth first."""
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        for name in [*old, *(name for name in new if name not in old)]:
            yield from config_differences(old.get(name), new.get(name), f"{key}.{name}" if key else name)
    elif old != new:
        yield key, old, new

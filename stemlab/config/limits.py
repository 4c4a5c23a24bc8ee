"""Limits on the batches of a run (``trainer.limit_*``), for quick tests: results with a limit are marked LIMITED.

A run with the tag LIMITED was trained for fewer epochs than its experiment (``stemlab.reproduce``).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

LIMIT_KEYS = ("limit_train_batches", "limit_val_batches", "limit_test_batches")
LIMITED = "LIMITED"


def batch_limits(config: Mapping[str, Any]) -> dict[str, int]:
    """Return the limits that a config sets, by their key in ``trainer``; empty without a limit."""
    trainer = config.get("trainer") or {}
    return {key: int(trainer[key]) for key in LIMIT_KEYS if trainer.get(key) is not None}


def _epoch_limit(config: Mapping[str, Any]) -> dict[str, int]:
    return {"max_epochs": int(config["trainer"]["max_epochs"])} if LIMITED in (config.get("tags") or ()) else {}


def training_limits(config: Mapping[str, Any]) -> dict[str, int]:
    """Return the limits that change the weights of a run: all but that of the test."""
    limits = {key: limit for key, limit in batch_limits(config).items() if key != "limit_test_batches"}
    return limits | _epoch_limit(config)


def run_limits(config: Mapping[str, Any], stage1: Mapping[str, Any] | None) -> dict[str, int]:
    """Return the limits of a run, and of the first stage from which it started.

    Args:
        config: config of the run.
        stage1: entry about the first stage in record or checkpoint, if any.
    """
    return dict((stage1 or {}).get("limits") or {}) | batch_limits(config) | _epoch_limit(config)


def limits_text(limits: Mapping[str, int]) -> str:
    """Return ``trainer.limit_train_batches=2, trainer.limit_test_batches=1``."""
    return ", ".join(f"trainer.{key}={value}" for key, value in limits.items())

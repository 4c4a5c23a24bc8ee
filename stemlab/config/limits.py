"""Limits on the batches of a run (``trainer.limit_*``), for quick tests: results with a limit are marked LIMITED."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

LIMIT_KEYS = ("limit_train_batches", "limit_val_batches", "limit_test_batches")
LIMITED = "LIMITED"


def batch_limits(config: Mapping[str, Any]) -> dict[str, int]:
    """Return the limits that a config sets, by their key in ``trainer``; empty without a limit."""
    trainer = config.get("trainer") or {}
    return {key: int(trainer[key]) for key in LIMIT_KEYS if trainer.get(key) is not None}


def limits_text(limits: Mapping[str, int]) -> str:
    """Return ``trainer.limit_train_batches=2, trainer.limit_test_batches=1``."""
    return ", ".join(f"trainer.{key}={value}" for key, value in limits.items())

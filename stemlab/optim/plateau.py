"""Plateau scheduler of the released code of STEM (docs/methods/stem.md#optimizer)."""

from __future__ import annotations

from typing import Any

from torch.optim import Optimizer
from torch.optim.lr_scheduler import ReduceLROnPlateau

from stemlab.optim.config import PlateauConfig

_PROGRESS = ("best", "num_bad_epochs", "cooldown_counter", "last_epoch", "_last_lr")


class PlateauScheduler(ReduceLROnPlateau):
    """Reduce the learning rate after every epoch in which the (maximised) metric is below best + threshold.

    Unlike in ``ReduceLROnPlateau``, a gain of exactly ``threshold`` is an improvement.
    """

    def _is_better(self, a: float, best: float) -> bool:
        return bool(a >= best + self.threshold)

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the progress of a checkpoint; factor, threshold and minimum are those of this run."""
        super().load_state_dict({key: state_dict[key] for key in _PROGRESS if key in state_dict})


def build_plateau(optimizer: Optimizer, config: PlateauConfig) -> PlateauScheduler | None:
    """Return the scheduler, or None if disabled; step it with the monitored metric after each validation."""
    if not config.enabled:
        return None
    return PlateauScheduler(
        optimizer,
        mode="max",
        factor=config.factor,
        patience=0,
        threshold=config.threshold,
        threshold_mode="abs",
        min_lr=config.min_lr,
        eps=0.0,
    )

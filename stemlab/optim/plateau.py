"""Learning-rate cut on a plateau, by the published rule."""

from __future__ import annotations

from torch.optim import Optimizer
from torch.optim.lr_scheduler import ReduceLROnPlateau

from stemlab.optim.config import PlateauConfig


class PlateauScheduler(ReduceLROnPlateau):
    """Cut the rate after every epoch in which the metric, to be maximised, did not reach best + threshold.

    Differs from the parent in one character: a gain of exactly ``threshold`` counts as an improvement.
    """

    def _is_better(self, a: float, best: float) -> bool:
        return bool(a >= best + self.threshold)


def build_plateau(optimizer: Optimizer, config: PlateauConfig) -> PlateauScheduler | None:
    """Return the scheduler to be stepped with the monitored metric after each validation, or None when switched off."""
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

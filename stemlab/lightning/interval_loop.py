"""Epoch loop with validations within an epoch and a maximum number of steps (docs/optimisation.md#steps)."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

from pytorch_lightning import Callback, LightningModule, Trainer
from pytorch_lightning.loops.fetchers import _DataFetcher
from pytorch_lightning.loops.training_epoch_loop import _TrainingEpochLoop


class IntervalEpochLoop(_TrainingEpochLoop):
    """Epoch loop that also validates after every ``validate_every`` steps and stops after ``step_limit`` steps.

    After a validation within an epoch, and after the last step of a limit within an epoch, the hook
    ``on_interval_end(trainer, module)`` of the callbacks that have it is called, which may save a checkpoint; then
    ``on_training_continues(trainer, module)``. Lightning's own ``val_check_interval`` counts batches, and a
    ``max_steps`` within an epoch ends the training without a validation.

    Attributes:
        validate_every: steps between two validations, counted from the start of the training, or None.
        step_limit: number of steps after which the training ends, or None.
        handled_step: number of the last step after which the hook was called, from 1; -1: none.
        within_epoch: whether the hook is being called.
    """

    validate_every: int | None = None
    step_limit: int | None = None
    handled_step = -1
    within_epoch = False
    _advancing = False

    def advance(self, data_fetcher: _DataFetcher) -> None:
        """Execute one training step."""
        self._advancing = True
        try:
            super().advance(data_fetcher)
        finally:
            self._advancing = False

    def on_advance_end(self, data_fetcher: _DataFetcher) -> None:
        """Validate if it is due, then call the hooks."""
        reached = self.reaches_limit()
        if reached:
            self.trainer.should_stop = True  # Lightning validates before it stops
        within = (reached or self.validates_next()) and not self.batch_progress.is_last_batch
        super().on_advance_end(data_fetcher)
        if within:
            self._call_hooks()

    def reaches_limit(self) -> bool:
        """Return whether all steps of the training are done."""
        return self.step_limit is not None and self.global_step >= self.step_limit

    def validates_next(self) -> bool:
        """Return whether an interval ends with the current step."""
        every = self.validate_every
        return every is not None and self.global_step % every == 0 and not self._should_accumulate()

    def _should_check_val_fx(self, data_fetcher: _DataFetcher) -> bool:
        if self._advancing:
            # before the first step after a resume, only a validation that was interrupted is due
            return super()._should_check_val_fx(data_fetcher) or (
                self.val_loop.restarted_mid_evaluation and (self.validates_next() or self.reaches_limit())
            )
        return super()._should_check_val_fx(data_fetcher) or self.validates_next()

    def _call_hooks(self) -> None:
        trainer: Any = self.trainer
        module = trainer.lightning_module
        self.within_epoch = True
        try:
            _call(trainer, "on_interval_end", module)
        finally:
            self.within_epoch = False
        self.handled_step = self.global_step
        _call(trainer, "on_training_continues", module)


def _call(trainer: Any, name: str, module: Any) -> None:
    for callback in trainer.callbacks:
        if (hook := getattr(callback, name, None)) is not None:
            hook(trainer, module)


class AfterValidation(Callback, ABC):
    """Callback that acts after every validation of a training, at the end of an epoch or within it."""

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Act, unless the last validation was one within the epoch."""
        loop = getattr(getattr(trainer, "fit_loop", None), "epoch_loop", None)
        if not (isinstance(loop, IntervalEpochLoop) and loop.handled_step == trainer.global_step):
            self.on_interval_end(trainer, pl_module)

    @abstractmethod
    def on_interval_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Act after a validation."""


def saves_within_epoch(trainer: Trainer) -> bool:
    """Return whether a checkpoint is being written within an epoch, after a validation."""
    loop = trainer.fit_loop.epoch_loop
    return isinstance(loop, IntervalEpochLoop) and loop.within_epoch

"""Checkpoint within an epoch when a signal ends the training, from which it resumes exactly."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from pytorch_lightning import Callback, LightningModule, Trainer
from torch import Tensor, distributed

from stemlab.errors import Interrupted
from stemlab.lightning.interval_loop import IntervalEpochLoop, saves_within_epoch
from stemlab.runs.signals import SignalGuard

AGREEMENT_STEPS = 8
"""Several processes agree every this many steps on whether one of them received a signal."""
_NOT_STARTED = {"ready": 0, "started": 0, "processed": 0, "completed": 0}
_STARTED = {"ready": 1, "started": 1, "processed": 0, "completed": 0}


class InterruptionCheckpoint(Callback):
    """Write a checkpoint after the step in which a signal arrived, then raise ``Interrupted``.

    The checkpoint contains the states of the random number generators of all processes, so that dropout continues as in
    an uninterrupted training; order of the samples and negatives follow from seed, epoch and batch. A signal in the
    last step of an epoch or in the validation is answered in the validation, which a resumed run repeats as a whole.

    Args:
        guard: receives the signals.
        path: checkpoint that is written.
    """

    def __init__(self, guard: SignalGuard, path: Path) -> None:
        self.guard, self.path = guard, path
        self._saving, self._in_validation = False, False
        self._resumed: list[dict[str, Tensor]] = []
        self._trainer: Trainer | None = None

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Restore the random number generators of a run that was interrupted within an epoch; defer signals."""
        self.guard.install()
        self.guard.deferred = True
        self._trainer = trainer
        if trainer.world_size > 1:
            _remove_broadcast(trainer)
        if self._resumed:
            _restore_generators(self._resumed[trainer.global_rank], pl_module.device)
            self._resumed = []

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Save and raise if a signal was received; before a validation it is answered there."""
        steps, part = divmod(batch_idx + 1, trainer.accumulate_grad_batches)
        if part or (trainer.world_size > 1 and (steps - 1) % AGREEMENT_STEPS):
            return
        if self._is_received(trainer) and batch_idx + 1 < trainer.num_training_batches and not _validates_next(trainer):
            self._save(trainer)

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Save and raise if a signal was received in the last steps of the epoch."""
        self.guard.install()
        if trainer.state.fn == "fit" and trainer.world_size > 1 and self._is_received(trainer):
            self._save_in_validation(trainer)

    def on_validation_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        """Save and raise if a signal was received; several processes finish the validation first."""
        if self.guard.received is not None and trainer.state.fn == "fit" and trainer.world_size == 1:
            self._save_in_validation(trainer)

    def on_test_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Replace the handlers of Lightning."""
        self.guard.install()

    def _is_received(self, trainer: Trainer) -> bool:
        """Return whether a signal was received; several processes agree, as one may reach a single process."""
        if trainer.world_size == 1:
            return self.guard.received is not None
        number = torch.tensor(int(self.guard.received or 0), device=trainer.strategy.root_device)
        distributed.all_reduce(number, op=distributed.ReduceOp.MAX)
        agreed = int(number)
        if agreed:
            self.guard.received = self.guard.received or agreed
        return bool(agreed)  # a signal that arrived during the all-reduce is answered at the next one

    def _save_in_validation(self, trainer: Trainer) -> None:
        self._in_validation = True
        self._save(trainer)

    def _save(self, trainer: Trainer) -> None:
        self._saving = True
        trainer.save_checkpoint(self.path)
        self.guard.stop()

    def state_dict(self) -> dict[str, Any]:
        """Return the states of the random number generators of all processes, within an epoch only."""
        within = self._saving or (self._trainer is not None and saves_within_epoch(self._trainer))
        return {"generators": _gather_generators()} if within else {}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Keep the states until the training starts."""
        self._resumed = list(state_dict.get("generators", []))

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Let the counters say that the validation was started and no batch of it was processed."""
        if self._in_validation:
            progress = {"total": dict(_STARTED), "current": dict(_NOT_STARTED), "is_last_batch": False}
            checkpoint["loops"]["fit_loop"]["epoch_loop.val_loop.batch_progress"] = progress


def _validates_next(trainer: Trainer) -> bool:
    """Return whether a validation within the epoch follows the current step; it answers the signal."""
    loop = trainer.fit_loop.epoch_loop
    return isinstance(loop, IntervalEpochLoop) and (loop.validates_next() or loop.reaches_limit())


def _gather_generators() -> list[dict[str, Tensor]]:
    """Return the states of the generators of each process. Collective."""
    own = {"cpu": torch.get_rng_state()}
    if torch.cuda.is_available() and torch.cuda.memory_allocated():
        own["cuda"] = torch.cuda.get_rng_state()
    if not (distributed.is_available() and distributed.is_initialized()):
        return [own]
    states: list[Any] = [None] * distributed.get_world_size()
    distributed.all_gather_object(states, own)
    return states


def _restore_generators(states: dict[str, Tensor], device: torch.device) -> None:
    torch.set_rng_state(states["cpu"])
    if device.type == "cuda" and "cuda" in states:
        torch.cuda.set_rng_state(states["cuda"])


def _remove_broadcast(trainer: Trainer) -> None:
    """Remove Lightning's broadcast of a SIGTERM flag before every step: this callback agrees on the signal."""
    loop: Any = trainer.fit_loop.epoch_loop
    if hasattr(loop, "_broadcast_sigterm_tensor"):
        loop._broadcast_sigterm_tensor = lambda: None


@contextmanager
def interruptions(trainer: Trainer, guard: SignalGuard) -> Iterator[None]:
    """Raise ``Interrupted`` where Lightning turns an interruption into ``SystemExit``, or where a signal is pending."""
    try:
        yield
    except SystemExit:
        if not trainer.interrupted:
            raise
        if guard.received is None:  # not the main thread: the signal was handled elsewhere
            raise KeyboardInterrupt from None
        raise Interrupted(guard.received) from None
    guard.check()

"""Accumulated gradients, validations within an epoch and a maximum number of steps, with resumes."""

from __future__ import annotations

import shutil
import signal
from pathlib import Path
from typing import Any

import pytest
import torch
from pytorch_lightning import Callback

from stemlab.callbacks.early_stop import EarlyStop
from stemlab.errors import Interrupted
from stemlab.lightning import step_loop
from stemlab.lightning.interval_loop import IntervalEpochLoop
from stemlab.lightning.step_loop import StepLoop
from stemlab.optim import OptimConfig, PlateauConfig
from stemlab.runs.interruption import InterruptionCheckpoint
from stemlab.runs.signals import SignalGuard
from tests.lightning.toy_training import EPOCH_STEPS, PENALISED, Training, by_rows, make

EVERY = 5
STEPS = 3 * EPOCH_STEPS


class Validations(Callback):
    """Keep the steps after which validations ran, and copy the last checkpoint after one of them."""

    def __init__(self, copied: int | None = None, folder: Path | None = None) -> None:
        self.steps: list[int] = []
        self.copied, self.folder = copied, folder

    def on_validation_end(self, trainer, pl_module) -> None:
        if trainer.state.fn == "fit":
            self.steps.append(trainer.global_step)

    def on_training_continues(self, trainer, pl_module) -> None:
        if trainer.global_step == self.copied:
            shutil.copyfile(self.folder / "last.ckpt", self.folder / "copied.ckpt")


def training(
    folder: Path,
    every: int | None = EVERY,
    limit: int | None = None,
    kind: type[IntervalEpochLoop] = StepLoop,
    extra: tuple[Callback, ...] = (),
    **settings: Any,
) -> Training:
    """Return a training with a penalty and the callbacks of a run."""
    made = Training(make(settings.pop("net", "mmoe")), 0, folder, **{**PENALISED, **settings})
    loop = step_loop.install(made.trainer, kind)
    loop.validate_every, loop.step_limit = every, limit
    guard = SignalGuard()
    made.trainer.callbacks[:0] = extra
    made.trainer.callbacks.append(InterruptionCheckpoint(guard, folder / "last.ckpt"))
    return made


def assert_equal_weights(ours: Training, expected: Training) -> None:
    for (key, a), b in zip(ours.module.state_dict().items(), expected.module.state_dict().values(), strict=True):
        assert torch.equal(a, b), key
    assert ours.trainer.global_step == expected.trainer.global_step


# ------------------------------------------------------------------------------------------------------ accumulation


SGD = OptimConfig(name="sgd", lr=0.1, momentum=0.9, clip_norm=0.1)


@pytest.mark.parametrize("settings", [PENALISED | {"optim": SGD}, by_rows("rowwise_adagrad")], ids=["dense", "by rows"])
def test_accumulated_batches_equal_one_large_batch(settings: dict[str, Any], tmp_path: Path) -> None:
    large = Training(make("stem"), 0, tmp_path / "large", **settings).fit()
    parts = Training(
        make("stem"), 0, tmp_path / "parts", batch_size=7, options={"accumulate_grad_batches": 2}, **settings
    )
    step_loop.install(parts.trainer)
    parts.fit()
    # 96 samples: the last step of an epoch has batches of 7 and 5
    assert parts.trainer.global_step == large.trainer.global_step == STEPS
    for a, b in zip(parts.module.parameters(), large.module.parameters(), strict=True):
        torch.testing.assert_close(a, b, atol=1e-6 if settings["optim"] is SGD else 1e-4, rtol=1e-5)
    ours, theirs = ([line["train/loss"] for _, line in t.log.lines if "train/loss" in line] for t in (parts, large))
    assert ours == pytest.approx(theirs, rel=1e-2)  # the mean over batches
    assert parts.trainer.fit_loop.epoch_loop.reason == "trainer option accumulate_grad_batches"


# --------------------------------------------------------------------------------------------------------- intervals


@pytest.mark.parametrize("kind", [StepLoop, IntervalEpochLoop])
def test_validations_run_every_interval_and_every_epoch(kind: type[IntervalEpochLoop], tmp_path: Path) -> None:
    seen = Validations()
    ours = training(tmp_path / "ours", kind=kind, extra=(seen,)).fit()
    assert seen.steps == [5, 7, 10, 14, 15, 20, 21]
    assert ours.checkpoint.step in seen.steps
    saved = torch.load(ours.checkpoint.best_path, weights_only=True)
    assert saved["global_step"] == ours.checkpoint.step
    if kind is StepLoop:
        assert ours.trainer.fit_loop.epoch_loop.direct_steps == STEPS


def test_validations_do_not_change_the_training(tmp_path: Path) -> None:
    optim = OptimConfig(lr=0.05, clip_norm=0.1, plateau=PlateauConfig(enabled=False))
    plain = training(tmp_path / "plain", every=None, optim=optim).fit()
    assert_equal_weights(training(tmp_path / "ours", optim=optim).fit(), plain)


@pytest.mark.parametrize("kind", [StepLoop, IntervalEpochLoop])
def test_a_checkpoint_within_an_epoch_is_resumed_exactly(kind: type[IntervalEpochLoop], tmp_path: Path) -> None:
    whole = training(tmp_path, kind=kind, extra=(Validations(10, tmp_path),)).fit()
    resumed = training(tmp_path / "second", kind=kind, extra=(seen := Validations(),))
    resumed.fit(tmp_path / "copied.ckpt")
    assert seen.steps == [14, 15, 20, 21]
    assert_equal_weights(resumed, whole)
    assert resumed.log.lines == whole.log.lines[-len(resumed.log.lines) :]
    assert resumed.checkpoint.improvement.state_dict() == whole.checkpoint.improvement.state_dict()


class Signal(Callback):
    """Let a signal arrive in the last step before a validation within an epoch, or in that validation."""

    def __init__(self, step: int, hook: str) -> None:
        self.step, self.guard = step, None
        setattr(self, hook, self._send)

    def _send(self, trainer, *rest) -> None:
        if trainer.global_step == self.step:
            guard = next(c.guard for c in trainer.callbacks if isinstance(c, InterruptionCheckpoint))
            guard.received = int(signal.SIGTERM)


@pytest.mark.parametrize("hook", ["on_train_batch_end", "on_validation_start"])
def test_an_interrupted_validation_is_repeated(hook: str, tmp_path: Path) -> None:
    whole = training(tmp_path / "whole").fit()
    first = training(tmp_path / "first", extra=(Signal(10, hook),))
    with pytest.raises((Interrupted, SystemExit, KeyboardInterrupt)):
        first.fit()
    resumed = training(tmp_path / "second", extra=(seen := Validations(),))
    resumed.fit(tmp_path / "first" / "last.ckpt")
    assert seen.steps == [10, 14, 15, 20, 21]
    assert_equal_weights(resumed, whole)


def test_early_stopping_counts_validations_and_ends_within_an_epoch(tmp_path: Path) -> None:
    stop, seen = EarlyStop("val/auc", "max", patience=2, min_delta=1.0), Validations()
    ours = training(tmp_path, extra=(stop, seen)).fit()
    assert seen.steps == [5, 7, 10]  # the first one improves; the third one ends the training
    assert (stop.waited, ours.trainer.global_step) == (2, 10)


# ------------------------------------------------------------------------------------------------------------- limits


@pytest.mark.parametrize("limit", [10, 14])
@pytest.mark.parametrize("every", [None, EVERY])
def test_a_training_ends_after_its_steps_and_can_be_extended(limit: int, every: int | None, tmp_path: Path) -> None:
    whole = training(tmp_path / "whole", every=EVERY if every else None)
    expected = [5, 7, 10, 14] if every else [7, 10, 14]
    ours = training(tmp_path / "first", every=every, limit=limit, extra=(seen := Validations(),)).fit()
    assert ours.trainer.global_step == limit
    assert seen.steps == [step for step in expected if step <= limit and (every or step != 10 or limit == 10)]
    same = training(tmp_path / "same", every=every, limit=limit, extra=(none := Validations(),))
    same.fit(tmp_path / "first" / "last.ckpt")
    assert (same.trainer.global_step, none.steps) == (limit, [])
    if every is None and limit == 10:
        return  # the validation at the limit is one more for the plateau rule
    longer = training(tmp_path / "second", every=every)
    longer.fit(tmp_path / "first" / "last.ckpt")
    assert_equal_weights(longer, whole.fit())

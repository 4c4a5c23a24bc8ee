"""The short step loop: losses, weights, logs, checkpoints and calls of callbacks are those of Lightning's loop."""

from pathlib import Path
from typing import Any

import pytest
import torch
from pytorch_lightning import Callback
from pytorch_lightning.profilers import SimpleProfiler

from stemlab.errors import StemlabError
from stemlab.lightning import step_loop
from stemlab.lightning.idle_hooks import skip_idle_hooks
from stemlab.lightning.step_loop import StepLoop
from tests.lightning.test_captured import SaveAt, assert_equal_trainings
from tests.lightning.toy_training import EPOCH_STEPS, PENALISED, ROWS_ONLY, Spoil, Training, make

SETTINGS = {"mmoe": {}, "stem, penalised": PENALISED, "stem, penalised rows": ROWS_ONLY}


def training(case: str, folder: Path, direct: bool, callbacks: tuple[Callback, ...] = (), **settings: Any) -> Training:
    """Return a training, with the hooks that do nothing left out as in a run."""
    made = Training(make(case.partition(",")[0]), 0, folder, **{**SETTINGS[case], **settings})
    made.trainer.callbacks[:0] = callbacks
    skip_idle_hooks(made.module, made.trainer.callbacks)
    if direct:
        step_loop.install(made.trainer)
    return made


def loop_of(made: Training) -> StepLoop:
    loop = made.trainer.fit_loop.epoch_loop
    assert isinstance(loop, StepLoop)
    return loop


def assert_equal_values(ours: Any, expected: Any, key: str = "") -> None:
    """Compare checkpoints."""
    if isinstance(expected, dict):
        assert list(ours) == list(expected), key
        for name in expected:
            assert_equal_values(ours[name], expected[name], f"{key}.{name}")
    elif isinstance(expected, list | tuple):
        assert len(ours) == len(expected), key
        for one, other in zip(ours, expected, strict=True):
            assert_equal_values(one, other, key)
    elif isinstance(expected, torch.Tensor):
        assert torch.equal(ours, expected), key
    elif not key.endswith("best_k_models"):
        assert ours == expected, key


class Logs(Callback):
    """Logs a value per step, as a callback of a user may, and keeps what it sees of every batch."""

    def __init__(self) -> None:
        self.seen: list[Any] = []

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx) -> None:
        self.seen.append((batch_idx, trainer.global_step, len(batch)))

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx) -> None:
        self.log("step_value", float(batch_idx), on_step=True, on_epoch=True)
        self.log("epoch_value", outputs["loss"], on_epoch=True)
        self.seen.append((float(outputs["loss"]), trainer.global_step, sorted(trainer.callback_metrics)))


@pytest.mark.parametrize("case", SETTINGS)
def test_equals_lightning(case: str, tmp_path: Path) -> None:
    logs = Logs(), Logs()
    expected = training(case, tmp_path / "lightning", False, (logs[0],)).fit()
    ours = training(case, tmp_path / "direct", True, (logs[1],)).fit()
    assert_equal_trainings(ours, expected)
    assert loop_of(ours).reason is None
    assert loop_of(ours).direct_steps == 3 * EPOCH_STEPS
    assert ours.losses.seen == expected.losses.seen
    assert logs[0].seen == logs[1].seen
    saved = [torch.load(tmp_path / way / "last.ckpt", weights_only=True) for way in ("direct", "lightning")]
    assert_equal_values(*saved)
    assert any("step_value_step" in line for _, line in ours.log.lines)
    assert ours.trainer.logged_metrics.keys() == expected.trainer.logged_metrics.keys()


@pytest.mark.parametrize(("first", "second"), [(True, True), (True, False), (False, True)])
def test_a_checkpoint_within_an_epoch_is_resumed_by_both_loops(first: bool, second: bool, tmp_path: Path) -> None:
    case = "stem, penalised"
    expected = training(case, tmp_path / "whole", False).fit()
    training(case, tmp_path / "first", first, (SaveAt(EPOCH_STEPS + 4, tmp_path / "within.ckpt"),)).fit()
    for name in ("best.ckpt", "last.ckpt"):
        (tmp_path / name).write_bytes((tmp_path / "first" / name).read_bytes())
    resumed = training(case, tmp_path / "second", second).fit(tmp_path / "within.ckpt")
    for a, b in zip(resumed.module.parameters(), expected.module.parameters(), strict=True):
        assert torch.equal(a, b)
    assert resumed.trainer.global_step == expected.trainer.global_step
    assert resumed.log.lines == expected.log.lines[-len(resumed.log.lines) :]
    if second:  # Lightning executes the first step after a resumption
        assert loop_of(resumed).direct_steps == 2 * EPOCH_STEPS - 4 - 1


def test_a_loss_that_is_not_finite_is_reported_with_its_step(tmp_path: Path) -> None:
    made = training("mmoe", tmp_path, True)
    with pytest.raises(StemlabError, match=r"nan.*epoch 2, step 3 .*learning rate"):
        Spoil(made, call=EPOCH_STEPS + 3).fit()


class Hooked(Callback):
    """Uses a hook within a step."""

    calls = 0

    def on_after_backward(self, trainer, pl_module) -> None:
        self.calls += 1


def test_lightning_executes_steps_with_other_hooks_and_options(tmp_path: Path) -> None:
    hooked = Hooked()
    made = training("mmoe", tmp_path / "hook", True, (hooked,), epochs=1).fit()
    assert (hooked.calls, loop_of(made).direct_steps) == (EPOCH_STEPS, 0)
    assert "Hooked.on_after_backward" in str(loop_of(made).reason)
    made = training("mmoe", tmp_path / "option", True, epochs=1)
    made.trainer.accumulate_grad_batches = 2
    assert "accumulate_grad_batches" in str(loop_of(made.fit()).reason)
    made = training("mmoe", tmp_path / "profiler", True, epochs=1)
    made.trainer.profiler = SimpleProfiler()
    assert "profiler" in str(loop_of(made.fit()).reason)

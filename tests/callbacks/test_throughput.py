"""Samples per second of training, without validation."""

from pathlib import Path
from typing import Any

import pytest

from stemlab.callbacks import throughput
from stemlab.callbacks.progress import format_rate, use_progress_bar
from stemlab.callbacks.throughput import Stopwatch, Throughput
from tests.lightning.test_multitask import module, trainer
from tests.lightning.toy_data import Toy


class Clock:
    """A clock controlled by a test."""

    def __init__(self) -> None:
        self.now = 0.0

    def perf_counter(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(throughput, "time", made)
    return made


def test_a_stopwatch_counts_while_it_runs(clock: Clock) -> None:
    watch = Stopwatch()
    assert watch.rate() is None
    watch.start()
    watch.count(30)
    clock.now = 2.0
    assert watch.rate() == 15
    clock.now = 3.0
    watch.stop()
    clock.now = 100.0
    watch.stop()
    assert (watch.samples, watch.seconds, watch.rate()) == (30, 3.0, 10)
    watch.start()
    watch.count(10)
    clock.now = 101.0
    watch.stop()
    assert watch.rate() == 10


def test_training_is_timed_without_validation(clock: Clock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A training step takes 1 s and a validation step 100 s: 96 samples in 6 steps are 16 samples per second."""
    made, watch = module(), Throughput()
    train, validate = made.training_step, made.validation_step

    def slow_train(batch: Any, batch_idx: int) -> Any:
        clock.now += 1
        return train(batch, batch_idx)

    def slow_validate(batch: Any, batch_idx: int) -> None:
        clock.now += 100
        validate(batch, batch_idx)

    monkeypatch.setattr(made, "training_step", slow_train)
    monkeypatch.setattr(made, "validation_step", slow_validate)
    trainer(tmp_path, watch, epochs=2).fit(made, datamodule=Toy())
    assert (watch.train.samples, watch.train.seconds) == (192, 12.0)
    assert watch.train.rate() == 16
    assert watch.evaluation.samples == 2 * 51
    assert watch.evaluation.seconds == 2 * 17 * 100  # 51 samples are evaluated in 17 batches of 3


def test_the_test_loop_counts_as_evaluation(tmp_path: Path) -> None:
    watch = Throughput()
    trainer(tmp_path, watch).test(module(), datamodule=Toy(), verbose=False)
    assert watch.evaluation.samples == 51
    assert watch.train.rate() is None


@pytest.mark.parametrize(
    ("rate", "text"),
    [(None, "- samples/s"), (7.25, "7.25 samples/s"), (41234.0, "41.2k samples/s"), (2.5e6, "2.5M samples/s")],
)
def test_rates_have_three_digits(rate: float | None, text: str) -> None:
    assert format_rate(rate) == text


def test_the_bar_needs_a_terminal_unless_configured() -> None:
    assert not use_progress_bar("auto")  # pytest captures the output
    assert use_progress_bar(True)
    assert not use_progress_bar(False)

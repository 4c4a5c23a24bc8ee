"""Progress output: the line per epoch, and the values next to the bar."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from stemlab.callbacks.progress import EpochLines, MetricBar, headline_metrics
from stemlab.callbacks.throughput import Throughput
from tests.lightning.test_multitask import Watch, module, trainer
from tests.lightning.toy_data import Toy


def test_an_epoch_prints_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    made, watch, speed = module(), Watch(), Throughput()
    trainer(tmp_path, speed, watch, EpochLines(speed), epochs=2).fit(made, datamodule=Toy())
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("epoch")]
    assert len(lines) == 2
    mean = sum(watch.losses[6:]) / 6
    assert lines[1].startswith(f"epoch 2/2  loss {mean:.4f}  val: auc {made.metric_values['val/auc']:.5f}")
    for task in ("finish", "like"):
        assert f"auc/{task} {made.metric_values[f'val/auc/{task}']:.5f}" in lines[1]
    assert "samples/s" in lines[1]
    assert f"lr {watch.rates[-1]:g}" in lines[1]


def test_the_bar_shows_loss_auc_of_each_task_and_speed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    made, speed = module(), Throughput()
    bar = MetricBar(speed)
    fit = trainer(tmp_path, speed, epochs=2, log_every_n_steps=1)
    fit.callbacks.append(bar)
    bar.setup(fit, made, "fit")
    fit.fit(made, datamodule=Toy())
    shown = bar.get_metrics(fit, made)
    assert list(shown) == ["loss", "auc", "auc/finish", "auc/like", "speed"]
    assert shown["loss"] == f"{float(fit.callback_metrics['train/loss']):.4f}"
    assert shown["auc/like"] == f"{made.metric_values['val/auc/like']:.4f}"
    assert shown["speed"].endswith("samples/s")


def test_the_bar_counts_epochs_as_the_lines_do(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    made, speed, labels = module(), Throughput(), []

    class Watched(MetricBar):
        def on_train_batch_end(self, *arguments: Any) -> None:
            super().on_train_batch_end(*arguments)
            labels.append(self.train_progress_bar.description.strip())

    fit = trainer(tmp_path, speed, EpochLines(speed), epochs=2)
    fit.callbacks.append(Watched(speed))
    fit.fit(made, datamodule=Toy())
    assert list(dict.fromkeys(labels)) == ["epoch 1/2", "epoch 2/2"]


def test_metrics_per_scenario_are_not_shown() -> None:
    values = {"val/auc": 0.1, "val/auc/like": 0.2, "val/auc/like/nl": 0.3, "val/gauc": 0.4, "test/auc": 0.5}
    module = SimpleNamespace(metric_values=values, headlines=("auc",))
    assert headline_metrics(module) == {"auc": 0.1, "auc/like": 0.2}

"""Best epoch and early stopping of each task, against one rule per task."""

import math
from types import SimpleNamespace

import numpy as np
import pytest

from stemlab.callbacks.early_stop import EarlyStop
from stemlab.callbacks.task_selection import TaskSelection

TASKS = ("click", "like")


class Epochs:
    """Calls a callback with the values of one epoch after the other."""

    def __init__(self, callback, epoch=0):
        self.callback = callback
        self.trainer = SimpleNamespace(should_stop=False, current_epoch=epoch, global_step=7 * epoch)

    def add(self, values):
        """Add an epoch; return whether the training goes on."""
        self.trainer.global_step += 7
        module = SimpleNamespace(metric_values={f"val/auc/{task}": value for task, value in values.items()})
        self.callback.on_train_epoch_end(self.trainer, module)
        self.trainer.current_epoch += 1
        return not self.trainer.should_stop


def selection(patience=1, min_delta=0.0):
    return TaskSelection(TASKS, "val/auc", "max", min_delta, patience)


@pytest.mark.parametrize("patience", [1, 2, 3])
@pytest.mark.parametrize("min_delta", [0.0, 0.15])
def test_each_task_ends_as_if_it_were_alone(patience, min_delta):
    rng = np.random.default_rng(patience)
    for epochs in [*range(1, 12), *[12] * 20]:
        check_series(rng.choice([0.1, 0.2, 0.3, 0.4, math.nan], (epochs, 2)).tolist(), patience, min_delta)


def check_series(series, patience, min_delta):
    """Compare the tasks with one EarlyStop each, for one series of values."""
    both, epochs = selection(patience, min_delta), 0
    run = Epochs(both)
    for values in series:
        epochs += 1
        if not run.add(dict(zip(TASKS, values, strict=True))):
            break
    alone = {}
    for column, task in enumerate(TASKS):
        alone[task] = EarlyStop(f"val/auc/{task}", "max", patience, min_delta)
        own = Epochs(alone[task])
        stopped = next((n + 1 for n, values in enumerate(series) if not own.add({task: values[column]})), None)
        assert both.has_stopped(task) == (stopped is not None and stopped <= epochs)
        assert both.best[task].best == alone[task].improvement.best
        if both.best[task].best is not None:
            assert both.best[task].epoch == alone[task].improvement.epoch
            assert both.step[task] == 7 * (both.best[task].epoch + 1)
    assert run.trainer.should_stop == all(map(both.has_stopped, TASKS))


def test_improved_names_the_tasks_of_the_latest_epoch():
    both = selection(patience=1)
    run = Epochs(both)
    run.add({"click": 0.5, "like": 0.5})
    assert both.improved == ("click", "like")
    run.add({"click": 0.4, "like": 0.6})
    assert both.improved == ("like",)
    run.add({"click": 0.9, "like": 0.7})  # click has stopped: its later best does not count
    assert both.improved == ("like",)
    assert (both.best["click"].epoch, both.best["like"].epoch) == (0, 2)
    assert not run.add({"click": 0.9, "like": 0.6})


def test_the_latest_epoch_counts_until_a_value_is_defined():
    both = selection(patience=1)
    run = Epochs(both)
    for _ in range(2):
        run.add({"click": 0.5, "like": math.nan})
        assert "like" in both.improved
    assert (both.best["like"].epoch, both.best["like"].best, both.waited["like"]) == (1, None, 0)


def test_without_patience_no_task_stops():
    both = selection(patience=None)
    run = Epochs(both)
    assert all(run.add({"click": 0.5 - 0.01 * n, "like": 0.4}) for n in range(5))
    assert (both.best["click"].epoch, both.waited["click"]) == (0, 4)


def test_a_resumed_selection_goes_on_and_a_stopped_one_stops():
    whole, half = selection(patience=2), selection(patience=2)
    series = [{"click": value, "like": value} for value in (0.5, 0.4, 0.6, 0.5, 0.5)]
    run, first = Epochs(whole), Epochs(half)
    going_on = [run.add(values) for values in series]
    assert going_on == [True] * 4 + [False]
    for values in series[:2]:
        first.add(values)
    resumed = selection(patience=2)
    resumed.load_state_dict(half.state_dict())
    second = Epochs(resumed, epoch=2)
    assert [second.add(values) for values in series[2:]] == going_on[2:]
    assert resumed.state_dict() == whole.state_dict()
    ended = selection(patience=2)
    ended.load_state_dict(whole.state_dict())
    trainer = SimpleNamespace(should_stop=False)
    ended.on_train_start(trainer, None)
    assert trainer.should_stop


@pytest.mark.parametrize("mode", ["max", "min"])
def test_the_direction_of_the_metric_decides(mode):
    rule = TaskSelection(TASKS, "val/auc", mode, 0.0, None)
    run = Epochs(rule)
    for value in (0.5, 0.7, 0.3):
        run.add(dict.fromkeys(TASKS, value))
    assert rule.best["click"].epoch == (1 if mode == "max" else 2)

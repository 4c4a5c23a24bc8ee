"""The stopping rules of the released code of TiMiRec on synthetic curves."""

from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from stemlab.callbacks.early_stop import WindowStop
from stemlab.config.resolve import resolve


def released_rule(values, window=10):
    """Return the decision of the released code after an epoch."""
    first_best = values.index(max(values))
    falling = all(values[n] >= values[n + 1] for n in range(max(0, len(values) - window), len(values) - 1))
    return (len(values) > 20 and falling) or len(values) - first_best > 20


def epochs_run(curve, stop=None):
    """Return the number of epochs after which the callback stops a training with these values."""
    stop = stop or WindowStop("val/ndcg@5", "max", window=10, patience=20)
    module, trainer = SimpleNamespace(metric_values={}), SimpleNamespace(should_stop=False)
    for value in curve:
        module.metric_values["val/ndcg@5"] = value
        stop.on_train_epoch_end(trainer, module)
        if trainer.should_stop:
            return len(stop.values)
    return None


def curve(epochs, best):
    """Return one value per epoch: the best in epoch ``best`` (from 1), and no ten values in a row without increase."""
    rising = [0.24 + 0.001 * n for n in range(best)]
    return rising + [0.3 + 0.001 * (n % 3) for n in range(epochs - best)]


def test_best_at_139_stops_at_159():
    """The authors' log: best epoch 139 (counted from 1), 159 epochs run."""
    values = curve(200, best=139)
    assert values.index(max(values)) == 138
    assert epochs_run(values) == 159


def test_a_second_epoch_with_the_best_value_does_not_extend_the_training():
    values = curve(200, best=139)
    values[150] = values[138]
    assert epochs_run(values) == 159
    values[150] += 1e-9
    assert epochs_run(values) == 171


def test_ten_values_without_increase_stop_after_twenty_epochs():
    falling = [0.5 - 0.001 * n for n in range(200)]
    assert epochs_run(falling) == 21  # both rules; patience alone would allow as many
    late = [0.1 + 0.01 * n for n in range(30)] + [0.39] * 5 + [0.38] * 5
    assert epochs_run(late) == 39  # ten values: the 30th, 0.39, and the nine after it
    broken = [*late[:36], 0.385, *late[36:]]
    broken[35] = 0.38
    assert epochs_run(broken[:40]) is None


def test_the_window_rule_is_inactive_in_the_first_twenty_epochs():
    values = [0.1 + 0.01 * n for n in range(10)] + [0.19] * 10
    assert epochs_run(values) is None
    assert epochs_run([*values, 0.19]) == 21
    assert epochs_run([*values, 0.2]) is None


@given(
    st.lists(st.integers(0, 6).map(lambda n: n / 8), min_size=1, max_size=60),
    st.integers(2, 12),
)
def test_decisions_equal_those_of_the_released_code(values, window):
    expected = next((n for n in range(1, len(values) + 1) if released_rule(values[:n], window)), None)
    assert epochs_run(values, WindowStop("val/ndcg@5", "max", window, patience=20)) == expected


@given(st.lists(st.integers(0, 6).map(lambda n: n / 8), min_size=1, max_size=60), st.integers(0, 60))
def test_the_state_is_restored_at_resume(values, cut):
    whole, first, second = (WindowStop("val/ndcg@5", "max", 5, 8) for _ in range(3))
    stopped = epochs_run(values, whole)
    if epochs_run(values[:cut], first) is None:
        second.load_state_dict(first.state_dict())
        assert epochs_run(values[cut:], second) == stopped
        assert second.state_dict() == whole.state_dict()


def test_smaller_is_better_in_the_other_mode():
    values = [-value for value in curve(200, best=139)]
    assert epochs_run(values, WindowStop("val/ndcg@5", "min", 10, 20)) == 159


def test_an_undefined_epoch_is_not_counted():
    values = curve(200, best=139)
    with_holes = values[:100] + [float("nan")] * 7 + values[100:]
    stop = WindowStop("val/ndcg@5", "max", 10, 20)
    assert epochs_run(with_holes, stop) == 159
    assert stop.values == values[:159]


@pytest.mark.parametrize(
    ("values", "hint"),
    [
        (curve(200, 139)[:159], "best 20 epochs ago"),
        ([0.1] * 21, "last 10 epochs"),
    ],
)
def test_a_run_that_had_stopped_stops_at_once_when_resumed(values, hint, capsys):
    stop, trainer = WindowStop("val/ndcg@5", "max", 10, 20), SimpleNamespace(should_stop=False)
    stop.load_state_dict({"values": values[:-1]})
    stop.on_train_start(trainer, None)
    assert not trainer.should_stop
    stop.load_state_dict({"values": values})
    stop.on_train_start(trainer, None)
    assert trainer.should_stop
    assert stop.reason().startswith("val/ndcg@5 ")
    assert hint in stop.reason()


def test_the_config_file_has_the_limits_of_the_released_code(root: Path):
    shipped = resolve({"callbacks": yaml.safe_load((root / "conf/callbacks/ranking.yaml").read_text())})["callbacks"]
    expected = {"enabled": True, "monitor": "val/ndcg@5", "mode": "max", "window": 10, "patience": 20}
    assert shipped["early_stop"] == expected
    assert shipped["checkpoint"] == {"monitor": "val/ndcg@5", "mode": "max", "save_last": True}

"""The improvement rule of the released code: value >= best + min_delta."""

import math

from hypothesis import given
from hypothesis import strategies as st

from stemlab.callbacks.improvement import Improvement


def test_a_gain_of_exactly_the_threshold_is_an_improvement() -> None:
    rule = Improvement("max", 0.25)
    assert [rule.update(value, epoch) for epoch, value in enumerate([0.5, 0.75, 0.875, 1.0])] == [
        True,
        True,
        False,
        True,
    ]
    assert (rule.best, rule.epoch) == (1.0, 3)


def test_smaller_is_better_in_the_other_mode() -> None:
    rule = Improvement("min", 0.0)
    assert [rule.update(value, epoch) for epoch, value in enumerate([0.5, 0.6, 0.5, 0.4])] == [True, False, True, True]


def test_undefined_values_are_ignored() -> None:
    rule = Improvement()
    assert rule.update(math.nan, 0) is None
    assert rule.best is None
    assert rule.update(0.1, 1)
    assert rule.update(math.nan, 2) is None
    assert (rule.best, rule.epoch) == (0.1, 1)


@given(st.lists(st.floats(0, 1), min_size=1), st.integers(0, 20))
def test_the_state_can_be_restored_at_any_epoch(values: list[float], cut: int) -> None:
    whole, first, second = Improvement(min_delta=1e-3), Improvement(min_delta=1e-3), Improvement(min_delta=1e-3)
    improved = [whole.update(value, epoch) for epoch, value in enumerate(values)]
    cut = min(cut, len(values))
    resumed = [first.update(value, epoch) for epoch, value in enumerate(values[:cut])]
    second.load_state_dict(first.state_dict())
    resumed += [second.update(value, cut + epoch) for epoch, value in enumerate(values[cut:])]
    assert resumed == improved
    assert second.state_dict() == whole.state_dict()

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.model_selection import train_test_split

from stemlab.data.split import SplitRule, random_codes, split_sizes, time_codes
from stemlab.errors import StemlabError


def sklearn_codes(rows, rule):
    rest, test = train_test_split(np.arange(rows), test_size=rule.test_size, random_state=rule.seed)
    _, valid = train_test_split(rest, test_size=rule.valid_size, random_state=rule.seed)
    codes = np.zeros(rows, dtype=np.uint8)
    codes[test], codes[valid] = 2, 1
    return codes


@pytest.mark.parametrize("rows", [3, 5, 10, 11, 99, 1_000, 54_321, 1_000_209])
def test_random_split_is_train_test_split_twice(rows):
    rule = SplitRule()
    np.testing.assert_array_equal(random_codes(rows, rule), sklearn_codes(rows, rule))


@settings(deadline=None)
@given(st.integers(20, 400), st.floats(0.05, 0.4), st.floats(0.05, 0.4), st.integers(0, 2**32 - 1))
def test_random_split_any_sizes(rows, test_size, valid_size, seed):
    rule = SplitRule(test_size=test_size, valid_size=valid_size, seed=seed)
    np.testing.assert_array_equal(random_codes(rows, rule), sklearn_codes(rows, rule))


def test_published_sizes():
    assert split_sizes(1_000_209, SplitRule()) == (810_169, 90_019, 100_021)
    assert split_sizes(275_855_531, SplitRule()) == (223_442_979, 24_826_998, 27_585_554)


@settings(deadline=None)
@given(st.lists(st.integers(-5, 9), min_size=5, max_size=80), st.integers(1, 7), st.floats(0.05, 0.4))
def test_time_split_takes_the_last_rows(times, pieces, share):
    rule = SplitRule(rule="time", test_size=share, valid_size=share)
    codes = time_codes(len(times), rule, lambda: np.array_split(np.array(times, dtype=np.int64), pieces))
    train, valid, _ = split_sizes(len(times), rule)
    order = np.argsort(times, kind="stable")
    assert codes[order[:train]].tolist() == [0] * train
    assert codes[order[train : train + valid]].tolist() == [1] * valid
    assert set(codes[order[train + valid :]]) == {2}


def test_too_few_rows_are_refused():
    with pytest.raises(StemlabError, match=r"2 rows are too few to split .* leave 0 train, 1 valid and 1 test"):
        split_sizes(2, SplitRule())

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.model_selection import train_test_split

from stemlab.data.prepare.split import (
    SplitRule,
    date_codes,
    given_codes,
    random_codes,
    split_counts,
    split_sizes,
    time_codes,
)
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
def test_time_split_takes_the_last_rows(times, chunks, share):
    rule = SplitRule(rule="time", test_size=share, valid_size=share)
    codes = time_codes(len(times), rule, lambda: np.array_split(np.array(times, dtype=np.int64), chunks))
    train, valid, _ = split_sizes(len(times), rule)
    order = np.argsort(times, kind="stable")
    assert codes[order[:train]].tolist() == [0] * train
    assert codes[order[train : train + valid]].tolist() == [1] * valid
    assert set(codes[order[train + valid :]]) == {2}


def test_too_few_rows_raise():
    with pytest.raises(StemlabError, match=r"2 rows .* 0 train, 1 valid and 1 test"):
        split_sizes(2, SplitRule())


def chunks_of(values, chunks):
    return lambda: np.array_split(np.array(values, dtype=np.int64), chunks)


@settings(deadline=None)
@given(st.lists(st.integers(0, 20), min_size=3, max_size=60), st.integers(1, 7), st.integers(0, 19), st.integers(1, 20))
def test_dates_assign_rows_by_time(times, chunks, first, width):
    times = [-1, first, first + width, *times]  # one for each split
    rule = SplitRule(rule="dates", valid_from=first, test_from=first + width)
    codes = date_codes(len(times), rule, chunks_of(times, chunks))
    assert codes.tolist() == [0 if t < first else 1 if t < first + width else 2 for t in times]


def test_empty_split_by_dates_raises_with_the_time_range():
    rule = SplitRule(rule="dates", valid_from=20, test_from=30)
    with pytest.raises(StemlabError, match=r"valid_from=20 .*test_from=30 .*no valid rows.* 3 to 31"):
        date_codes(3, rule, chunks_of([31, 3, 30], 2))


@pytest.mark.parametrize("dates", [{}, {"valid_from": 3}, {"test_from": 3}, {"valid_from": 3, "test_from": 3}])
def test_missing_or_unordered_dates_raise(dates):
    with pytest.raises(StemlabError, match=r"rule=dates needs dataset\.split\.valid_from less than"):
        SplitRule(rule="dates", **dates)


@settings(deadline=None)
@given(st.lists(st.integers(0, 2), min_size=3, max_size=60), st.integers(1, 7))
def test_a_given_split_is_kept(codes, chunks):
    codes = [0, 1, 2, *codes]
    assert given_codes(len(codes), SplitRule(rule="given"), chunks_of(codes, chunks)).tolist() == codes


@settings(deadline=None)
@given(
    st.lists(st.tuples(st.sampled_from([0, 2]), st.integers(0, 3)), min_size=1, max_size=80),
    st.integers(1, 7),
    st.floats(0.05, 0.6),
    st.sampled_from(["last", "random"]),
    st.integers(0, 99),
)
def test_validation_is_carved_from_the_training_rows_of_every_scenario(rows, chunks, share, carve, seed):
    rows = [(0, 0), (0, 0), (2, 0), *rows]
    given_NB, scenario = zip(*rows, strict=True)
    rule = SplitRule(rule="given", valid_size=share, carve=carve, seed=seed)
    codes = given_codes(len(rows), rule, chunks_of(given_NB, chunks), chunks_of(scenario, chunks))
    assert [code == 2 for code in codes] == [code == 2 for code in given_NB]
    for scenario_id in range(4):
        train = [row for row, (code, where) in enumerate(rows) if code == 0 and where == scenario_id]
        valid = [row for row in train if codes[row] == 1]
        assert len(valid) == max(0, min(int(np.ceil(len(train) * share)), len(train) - 1))
        if carve == "last" and valid:
            assert valid == train[-len(valid) :]


def test_random_carving_is_uniform_and_seeded():
    given_N = chunks_of([0] * 50 + [2], 1)
    taken = np.zeros(50)
    for seed in range(400):
        codes = given_codes(51, SplitRule(rule="given", carve="random", valid_size=0.2, seed=seed), given_N)
        taken += codes[:50] == 1
    assert taken.sum() == 4000
    assert 45 < taken.min() < taken.max() < 120  # 80 expected, standard deviation 8
    rule = SplitRule(rule="given", carve="random", valid_size=0.2, seed=7)
    assert given_codes(51, rule, given_N).tolist() == given_codes(51, rule, given_N).tolist()


@pytest.mark.parametrize(
    ("codes", "message"),
    [
        ([0, 0, 3, 2], "values other than 0"),
        ([0, -1, 2], "values other than 0"),
        ([0, 256, 2], "values other than 0"),
        ([0, 0, 0, 1], r"the given split has 3 train, 1 valid, 0 test rows"),
        ([0, 2, 2], r"the given split has 1 train, 0 valid, 2 test rows"),
        ([1, 2], r"the given split has 0 train, 1 valid, 1 test rows"),
    ],
)
def test_invalid_given_splits_raise(codes, message):
    with pytest.raises(StemlabError, match=message):
        given_codes(len(codes), SplitRule(rule="given"), chunks_of(codes, 1))


def test_rows_of_no_split_are_not_counted():
    assert split_counts(np.array([0, 3, 1, 1, 2, 3, 0, 0], dtype=np.uint8)) == (3, 2, 1)

"""Histories and instances equal a plain Python implementation for random interactions."""

import tempfile

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stemlab.errors import StemlabError
from tests.data.sequence.toys import Toy, leave_two_out, raw_of, reference_instances

USERS, ITEMS = 5, 6
ROW = st.tuples(st.integers(1, USERS), st.integers(1, ITEMS), st.integers(0, 4), st.integers(0, 2))


def instances_of(loader, history_max):
    """Return (user, item, history, times) of every instance, and check the padding."""
    batch = loader.take(slice(0, len(loader.instances)))
    assert batch.history_BL.shape == batch.time_BL.shape == (len(batch), batch.length_B.max())
    assert batch.length_B.max() <= history_max
    found = []
    for b, length in enumerate(batch.length_B.tolist()):
        assert batch.history_BL[b, length:].eq(0).all()
        assert batch.time_BL[b, length:].eq(0).all()
        history, times = batch.history_BL[b, :length].tolist(), batch.time_BL[b, :length].tolist()
        found.append((int(batch.user_B[b]), int(batch.candidates_BN[b, 0]), history, times))
    return found


@settings(max_examples=60, deadline=None)
@given(st.lists(ROW, min_size=1, max_size=40), st.integers(1, 7))
def test_histories_equal_a_plain_implementation(rows, history_max):
    with tempfile.TemporaryDirectory() as folder:
        data = Toy(raw_of(rows, USERS, 10 * ITEMS), folder, history_max=history_max)
        data.prepare()
        for code, split in enumerate(("train", "valid", "test")):
            wanted = reference_instances(rows, code, history_max)
            assert data.rows(split) == len(wanted)
            if wanted:
                loader = data._loader(data._instances(split), None, None)
                assert instances_of(loader, history_max) == wanted


def test_longer_history_is_cut_to_the_most_recent(tmp_path):
    rows = [(1, item, item, 0) for item in range(1, 8)]
    data = Toy(raw_of(rows, 1, 9), tmp_path, history_max=3)
    batch = data.train_dataloader().take(np.array([5, 0, 3]))
    assert batch.history_BL.tolist() == [[4, 5, 6], [1, 0, 0], [2, 3, 4]]
    assert batch.length_B.tolist() == [3, 1, 3]
    assert batch.candidates_BN[:, 0].tolist() == [7, 2, 5]


def test_batch_is_as_wide_as_its_longest_history(tmp_path):
    data = Toy(raw_of([(1, item, item, 0) for item in range(1, 8)], 1, 9), tmp_path)
    assert data.train_dataloader().take(np.array([0, 1])).history_BL.shape == (2, 2)


def test_batches_are_new_writable_tensors(tmp_path):
    data = Toy(raw_of(leave_two_out(20, 30), 20, 200), tmp_path, batch_size=16)
    loader = data.train_dataloader()
    before = [batch.history_BL.clone() for batch in loader]
    for batch in loader:
        for tensor in (batch.user_B, batch.history_BL, batch.candidates_BN, batch.time_BL, batch.unit_B):
            tensor.fill_(-1)
    assert all(a.equal(b.history_BL) for a, b in zip(before, loader, strict=True))


def test_without_times(tmp_path):
    data = Toy(raw_of(leave_two_out(3, 30), 3, 200), tmp_path, times=False)
    batch = next(iter(data.train_dataloader()))
    assert batch.time_BL is None
    assert batch.unit_B is None


def test_unsorted_rows_give_the_same_dataset(tmp_path):
    rows = [(user, 1 + (user * 7 + n) % 30, 10 * n, 0) for user in range(1, 5) for n in range(9)]
    mixed = [rows[n] for n in np.random.default_rng(0).permutation(len(rows))]
    sorted_, unsorted = (Toy(raw_of(r, 4, 30), tmp_path / str(n)) for n, r in enumerate((rows, mixed)))
    for column in ("user", "item", "time", "split", "start", "stop", "unit"):
        np.testing.assert_array_equal(getattr(sorted_.log, column), getattr(unsorted.log, column))


def test_ties_keep_their_order(tmp_path):
    rows = [(1, 5, 10, 0), (1, 3, 10, 0), (1, 5, 10, 0), (1, 4, 9, 0), (1, 2, 10, 2)]
    log = Toy(raw_of(rows, 1, 9), tmp_path).log
    assert log.item.tolist() == [4, 5, 3, 5, 2]


def test_smallest_positive_gap(tmp_path):
    rows = [(1, 1, 100, 0), (1, 2, 130, 1), (1, 3, 107, 2), (1, 4, 100, 0)]  # over all splits; zero gaps are ignored
    rows += [(2, 1, 50, 0), (2, 2, 50, 0)]  # no positive gap
    rows += [(4, 1, 0, 0), (4, 2, 10**6, 0)]  # longer than the largest unit; user 3 has no rows
    log = Toy(raw_of(rows, 5, 9), tmp_path).log
    assert log.unit.tolist() == [65535, 7, 65535, 65535, 65535, 65535]


def test_users_with_one_interaction_are_counted_and_give_no_instance(tmp_path):
    rows = [(1, 1, 0, 0), (2, 1, 0, 0), (2, 2, 1, 0), (3, 4, 0, 2), (5, 1, 0, 0), (5, 2, 1, 2)]
    data = Toy(raw_of(rows, 5, 9, negatives={"test": np.array([[8, 8], [7, 6]])}), tmp_path)
    data.prepare()
    assert data.manifest["users_with_one_interaction"] == 2
    assert data.manifest["users_without_interaction"] == 1
    assert data.manifest["rows"] == {"train": 1, "valid": 0, "test": 1}
    assert data.manifest["interactions"] == {"train": 4, "valid": 0, "test": 2}
    batch = next(iter(data.test_dataloader()))
    assert batch.user_B.tolist() == [5]
    assert batch.candidates_BN.tolist() == [[2, 7, 6]]  # the list of user 3's row is dropped with it


def test_histories_for_the_next_item(tmp_path):
    rows = [(1, item, item, 2 if item == 7 else 0) for item in range(1, 8)] + [(2, 9, 3, 0)]
    data = Toy(raw_of(rows, 2, 9), tmp_path, history_max=4)
    batch = data.whole_histories(np.array([2, 1]))
    assert batch.history_BL.tolist() == [[9, 0, 0, 0], [4, 5, 6, 7]]
    assert batch.time_BL.tolist() == [[3, 0, 0, 0], [4, 5, 6, 7]]
    assert batch.user_B.tolist() == [2, 1]
    assert batch.unit_B.tolist() == [65535, 1]
    assert batch.candidates_BN.tolist() == [[0], [0]]


@pytest.mark.parametrize("key", ["batch_size", "eval_batch_size", "history_max", "num_negatives"])
def test_invalid_sizes_are_errors(tmp_path, key):
    with pytest.raises(StemlabError, match=f"dataset.{key} is 0"):
        Toy(raw_of([(1, 1, 1, 0)], 1, 1), tmp_path, **{key: 0})

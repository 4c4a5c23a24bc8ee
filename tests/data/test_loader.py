"""Batch orders on any world size, resuming, and equality with a per-sample loader."""

from dataclasses import dataclass

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils.data import DataLoader, Dataset

from stemlab.data.batch_order import MIN_EVAL_BATCHES, SequentialOrder, ShuffledOrder
from stemlab.data.loader import BatchLoader
from stemlab.errors import StemlabError


@dataclass
class Arrays:
    """Columns in memory; column 0 of ``ids`` and ``group`` hold the row number."""

    ids: np.ndarray
    labels: np.ndarray
    group: np.ndarray | None
    dense: np.ndarray | None = None
    scenario: np.ndarray | None = None

    def __len__(self):
        return len(self.ids)


def columns(n=103):
    row = np.arange(n)
    ids = np.stack([row, row * 7 % 50, row * 3 % 11], axis=1).astype(np.int32)
    labels = np.stack([row % 2, row % 5 == 0], axis=1).astype(np.int8)
    arrays = Arrays(ids, labels, row.astype(np.int64) * 10**12)
    for column in (arrays.ids, arrays.labels, arrays.group):
        column.setflags(write=False)  # like a memory map
    return arrays


class PerRow(Dataset):
    """Reference: one sample at a time, joined by the default collate function."""

    def __init__(self, arrays):
        self.arrays = arrays

    def __len__(self):
        return len(self.arrays)

    def __getitem__(self, i):
        a = self.arrays
        return {"ids": a.ids[i].copy(), "labels": a.labels[i].copy(), "group": a.group[i]}


def rows_of(loader):
    return [batch.ids_BF[:, 0].tolist() for batch in loader]


@pytest.mark.parametrize("order", ["shuffled", "sequential"])
def test_batches_equal_a_per_sample_loader(order):
    arrays = columns()
    plan = ShuffledOrder(103, 20, seed=1) if order == "shuffled" else SequentialOrder(103, 20)
    wanted = np.concatenate([np.arange(103)[rows] for rows in plan.batches()])
    reference = DataLoader(PerRow(arrays), batch_size=plan.batch_size, sampler=wanted.tolist())
    batches = list(BatchLoader(arrays, plan))
    assert len(batches) == len(plan) == len(reference)
    for ours, theirs in zip(batches, reference, strict=True):
        for got, expected in ((ours.ids_BF, "ids"), (ours.labels_BT, "labels"), (ours.group_B, "group")):
            assert torch.equal(got, theirs[expected])
            assert got.dtype == theirs[expected].dtype
        assert ours.dense_BN is None
        assert ours.scenario_B is None


def test_batches_own_writable_memory():
    arrays = columns()
    for plan in (ShuffledOrder(103, 20, seed=1), SequentialOrder(103, 20)):
        for batch in BatchLoader(arrays, plan):
            batch.ids_BF.fill_(-1)
            batch.labels_BT.fill_(-1)
    assert arrays.ids.min() == arrays.labels.min() == 0


@pytest.mark.parametrize("order", [ShuffledOrder(103, 20, seed=1), SequentialOrder(103, 20)])
def test_optional_columns_of_batches(order):
    dense = np.arange(206, dtype=np.float32).reshape(103, 2)
    arrays = Arrays(columns().ids, columns().labels, None, dense, np.arange(103, dtype=np.int32) % 4)
    for batch in BatchLoader(arrays, order):
        assert batch.group_B is None
        assert torch.equal(batch.dense_BN[:, 0], 2.0 * batch.ids_BF[:, 0])
        assert torch.equal(batch.scenario_B, batch.ids_BF[:, 0] % 4)
        assert (batch.dense_BN.dtype, batch.scenario_B.dtype) == (torch.float32, torch.int32)


@settings(max_examples=150, deadline=None)
@given(st.integers(1, 200), st.integers(1, 64), st.integers(1, 5), st.integers(0, 3))
def test_training_samples_on_any_world_size(n, batch_size, world_size, epoch):
    if n < world_size:
        with pytest.raises(StemlabError, match=f"{n} training samples .* {world_size} processes"):
            ShuffledOrder(n, batch_size, seed=3, rank=0, world_size=world_size)
        return
    orders = [ShuffledOrder(n, batch_size, seed=3, rank=r, world_size=world_size) for r in range(world_size)]
    for order in orders:
        order.set_epoch(epoch)
    batches = [list(order.batches()) for order in orders]
    assert [len(b) for b in batches] == [len(order) for order in orders] == [len(orders[0])] * world_size
    assert all(len({len(rows) for rows in step}) == 1 for step in zip(*batches, strict=True))
    together = [np.concatenate(step) for step in zip(*batches, strict=True)]
    assert all(len(rows) == batch_size * world_size for rows in together[:-1])
    if 1 < batch_size < n // world_size:  # no step of a single sample: batch normalisation cannot train on it
        assert len(batches[0][-1]) > 1
    # in a step, the ranks together read what one process with the joint batch size reads
    single = ShuffledOrder(n, batch_size * world_size, seed=3)
    single.set_epoch(epoch)
    seen, expected = np.concatenate(together), np.concatenate(list(single.batches()))
    assert len(seen) == n - n % world_size
    np.testing.assert_array_equal(seen, expected[: len(seen)])
    assert sorted(expected) == list(range(n))


@settings(max_examples=150, deadline=None)
@given(st.integers(1, 300), st.integers(1, 64), st.integers(1, 16))
def test_evaluation_samples_on_any_world_size(n, batch_size, world_size):
    whole = [(s.start, s.stop) for s in SequentialOrder(n, batch_size).batches()]
    assert [i for start, stop in whole for i in range(start, stop)] == list(range(n))
    assert max(stop - start for start, stop in whole) <= batch_size
    if len(whole) < world_size:
        with pytest.raises(StemlabError, match="too few for"):
            SequentialOrder(n, batch_size, 0, world_size)
        return
    orders = [SequentialOrder(n, batch_size, r, world_size) for r in range(world_size)]
    for rank, order in enumerate(orders):
        found = [(s.start, s.stop) for s in order.batches()]
        assert found == whole[rank::world_size]
        assert len(found) == len(order) > 0


@given(st.integers(MIN_EVAL_BATCHES, 10**6), st.integers(1, 10**6))
def test_each_of_sixteen_ranks_has_an_evaluation_batch(n, batch_size):
    assert min(len(SequentialOrder(n, batch_size, r, 16)) for r in range(16)) >= 1


def test_permutations_depend_on_epoch_and_seed_only():
    def first(seed, epoch):
        loader = BatchLoader(columns(), ShuffledOrder(103, 103, seed))
        loader.sampler.set_epoch(epoch)
        return rows_of(loader)[0]

    assert first(1, 0) == first(1, 0)
    orders = [first(seed, epoch) for seed in (1, 2) for epoch in (0, 1)]
    assert len({tuple(order) for order in orders}) == 4  # seed 1 epoch 1 is not seed 2 epoch 0
    assert all(sorted(order) == list(range(103)) for order in orders)


def test_split_smaller_than_a_batch():
    assert rows_of(BatchLoader(columns(3), SequentialOrder(3, 4096))) == [[0], [1], [2]]
    assert [len(rows) for rows in rows_of(BatchLoader(columns(3), ShuffledOrder(3, 4096, seed=0)))] == [3]


def test_epoch_may_be_set_after_the_iterator_is_made():
    loader = BatchLoader(columns(), ShuffledOrder(103, 20, seed=1))
    iterator = iter(loader)
    loader.set_epoch(4)
    expected = BatchLoader(columns(), ShuffledOrder(103, 20, seed=1))
    expected.set_epoch(4)
    assert [batch.ids_BF[:, 0].tolist() for batch in iterator] == rows_of(expected)


@pytest.mark.parametrize("stop", [0, 1, 4, 6])
def test_loader_resumes_after_the_delivered_batches(stop):
    whole = BatchLoader(columns(), ShuffledOrder(103, 20, seed=1))
    whole.set_epoch(2)
    expected = rows_of(whole)
    iterator = iter(whole)
    for _ in range(stop):
        next(iterator)
    resumed = BatchLoader(columns(), ShuffledOrder(103, 20, seed=1))
    resumed.load_state_dict(whole.state_dict() if stop else {"epoch": 2, "batch": 0})
    resumed.set_epoch(2)
    assert rows_of(resumed) == (expected[stop:] or expected)  # a finished epoch starts again
    assert rows_of(resumed) == expected
    assert len(resumed) == 6


def test_state_of_another_epoch_skips_nothing():
    loader = BatchLoader(columns(), ShuffledOrder(103, 20, seed=1))
    loader.load_state_dict({"epoch": 0, "batch": 3})
    loader.set_epoch(1)
    assert len(rows_of(loader)) == 6


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_pinned_memory():
    batch = next(iter(BatchLoader(columns(), SequentialOrder(103, 20), pin_memory=True)))
    assert batch.ids_BF.is_pinned()
    assert batch.to("cuda", non_blocking=True).ids_BF.device.type == "cuda"

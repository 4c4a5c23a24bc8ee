"""Blocks of steps hold the samples of the eager loader, in the same steps, from any step on."""

import itertools
from dataclasses import dataclass, fields

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn.functional import pad

from stemlab.data.batch_order import SequentialOrder, ShuffledOrder
from stemlab.data.blocks import BlockLoader
from stemlab.data.loader import BatchLoader
from stemlab.data.sequence import resident as sequence_resident
from tests.data.sequence.toys import Toy, leave_two_out, raw_of

RESIDENCES = ["device", "host"]


@dataclass
class Columns:
    """Columns in memory; column 0 of ``ids`` is the row number."""

    ids: np.ndarray
    labels: np.ndarray
    group: np.ndarray | None = None
    dense: np.ndarray | None = None
    scenario: np.ndarray | None = None

    def __len__(self):
        return len(self.ids)


def columns(n, every_column=True):
    row = np.arange(n)
    ids = np.stack([row, row * 7 % 50], axis=1).astype(np.int32)
    arrays = Columns(ids, np.stack([row % 2, row % 5 == 0], axis=1).astype(np.int8))
    if every_column:
        arrays.group = row * 10**12
        arrays.dense = (row[:, None] / 3).astype(np.float32)
        arrays.scenario = (row % 4).astype(np.int32)
    return arrays


def assert_equal(ours, expected):
    assert ours.tensors().keys() == expected.tensors().keys()
    for name, tensor in expected.tensors().items():
        found = ours.tensors()[name]
        if name in {"history_BL", "time_BL"}:  # padded to the longest history of the batch, or of all
            tensor = pad(tensor, (0, found.shape[1] - tensor.shape[1]))
        assert torch.equal(found, tensor), name
        assert found.dtype == tensor.dtype, name


def fields_of(dataclass_):
    return {field.name: getattr(dataclass_, field.name) for field in fields(dataclass_)}


def steps_of(blocks):
    return [block.batch(step) for block in blocks for step in range(block.steps)]


def assert_same_steps(blocks, batches):
    ours, expected = steps_of(blocks), list(batches)
    assert len(ours) == len(expected)
    for one, other in zip(ours, expected, strict=True):
        assert_equal(one, other)


@pytest.mark.parametrize("residence", RESIDENCES)
@pytest.mark.parametrize("every_column", [True, False])
@pytest.mark.parametrize("order", [ShuffledOrder(103, 20, 1), ShuffledOrder(103, 9, 1, 1, 2), SequentialOrder(103, 20)])
def test_blocks_have_the_steps_of_the_eager_loader(order, every_column, residence):
    arrays = columns(103, every_column)
    blocks = BlockLoader(BatchLoader(arrays, order), 3, residence=residence)
    for epoch in (0, 1):
        order.set_epoch(epoch)
        assert_same_steps(blocks, BatchLoader(arrays, order))
    assert len(list(blocks)) == len(blocks)


@settings(max_examples=100, deadline=None)
@given(
    st.integers(1, 120), st.integers(1, 30), st.integers(1, 9), st.integers(0, 130), st.sampled_from(RESIDENCES),
    st.one_of(st.none(), st.integers(1, 20)),
)  # fmt: skip
def test_blocks_from_any_step_on(n, batch_size, steps_per_block, start, residence, limit):
    eager = BatchLoader(columns(n), ShuffledOrder(n, batch_size, seed=3))
    eager.set_epoch(2)
    blocks = BlockLoader(
        BatchLoader(columns(n), ShuffledOrder(n, batch_size, seed=3)), steps_per_block, "cpu", residence, limit
    )
    blocks.load_state_dict({"epoch": 2, "batch": start})
    blocks.set_epoch(2)
    total = min(len(eager), limit or len(eager))
    first = start if start < total else 0
    found = list(blocks)
    assert_same_steps(found, itertools.islice(eager, first, total))
    assert [block.first_step for block in found] == list(
        itertools.accumulate((block.steps for block in found[:-1]), initial=first)
    )
    assert all(block.rows_SB.dtype == torch.int64 and block.steps <= steps_per_block for block in found)
    assert all(len(block) == block.rows_SB.numel() for block in found)
    # blocks end at multiples of the block length; a last step of another size is alone
    assert all((block.first_step + block.steps) % steps_per_block == 0 for block in found[:-2])
    sizes = [len(batch) for batch in steps_of(found)]
    if sizes[-1] != sizes[0]:
        assert found[-1].steps == 1
    if first == 0:
        assert len(found) == len(blocks)


@pytest.mark.parametrize("residence", RESIDENCES)
def test_states_count_steps_and_are_those_of_the_eager_loader(residence):
    blocks = BlockLoader(BatchLoader(columns(103), ShuffledOrder(103, 20, seed=1)), 4, residence=residence)
    blocks.set_epoch(1)
    iterator = iter(blocks)
    assert blocks.state_dict() == {"epoch": 1, "batch": 0}
    next(iterator)
    assert blocks.state_dict() == {"epoch": 1, "batch": 4}
    eager = BatchLoader(columns(103), ShuffledOrder(103, 20, seed=1))
    eager.load_state_dict(blocks.state_dict())
    eager.set_epoch(1)
    assert_same_steps(iterator, eager)
    assert blocks.state_dict() == {"epoch": 1, "batch": 6}


def test_resident_columns_stay_in_place():
    blocks = BlockLoader(BatchLoader(columns(103), ShuffledOrder(103, 20, seed=1)), 2)
    addresses = set()
    for epoch in range(2):
        blocks.set_epoch(epoch)
        addresses |= {block.columns.ids_BF.data_ptr() for block in blocks}
    assert len(addresses) == 1


def test_epoch_may_be_set_after_the_iterator_is_made():
    blocks = BlockLoader(BatchLoader(columns(103), ShuffledOrder(103, 20, seed=1)), 2)
    iterator = iter(blocks)
    blocks.set_epoch(4)
    eager = BatchLoader(columns(103), ShuffledOrder(103, 20, seed=1))
    eager.set_epoch(4)
    assert_same_steps(iterator, eager)


@pytest.mark.parametrize("residence", RESIDENCES)
def test_an_error_of_the_loader_is_raised_where_the_blocks_are_read(residence):
    loader = BatchLoader(columns(103), ShuffledOrder(103, 20, seed=1))
    loader.columns.ids = None
    with pytest.raises((AttributeError, TypeError, ValueError)):
        list(BlockLoader(loader, 2, residence=residence))


@pytest.mark.parametrize("residence", [*RESIDENCES, "log on the device"])
@pytest.mark.parametrize("times", [True, False])
@pytest.mark.parametrize("first_interactions", [True, False])
def test_sequences_and_their_negatives_of_every_epoch(tmp_path, residence, times, first_interactions, monkeypatch):
    if residence == "log on the device":
        monkeypatch.setattr(sequence_resident, "MAX_BATCH_BYTES", 0)
        residence = "device"
    rows = leave_two_out(20, 50, seed=5, least=3, most=30)
    data = Toy(raw_of(rows, 20, 50), tmp_path, times=times, batch_size=16, history_max=7, num_negatives=3, seed=4)
    data.first_interactions = first_interactions
    blocks, eager = BlockLoader(data.train_dataloader(), 5, residence=residence), data.train_dataloader()
    addresses = set()
    for epoch in (0, 1, 4):
        blocks.set_epoch(epoch)
        eager.set_epoch(epoch)
        found = list(blocks)
        assert_same_steps(found, eager)
        assert all(batch.history_BL.shape[1] == 7 for batch in steps_of(found))
        if residence == "device":
            named = {key: value for key, value in fields_of(found[0].columns).items() if torch.is_tensor(value)}
            addresses.add(tuple(value.data_ptr() for value in named.values()))
    assert len(addresses) == (1 if residence == "device" else 0)

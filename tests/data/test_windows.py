"""Training samples read in blocks: each once per epoch, the same on any number of ranks, exact after a resume."""

import numpy as np
import pytest
import torch

from stemlab.data.batch_order import SequentialOrder, ShuffledOrder
from stemlab.data.blocks import BlockLoader
from stemlab.data.column_file import ColumnFile
from stemlab.data.loader import BatchLoader
from stemlab.data.store import ColumnStore, StoreWriter
from stemlab.data.window_loader import WindowLoader
from stemlab.data.window_order import WINDOW_BLOCKS, WindowedOrder
from stemlab.errors import StemlabError
from tests.data.test_blocks import assert_same_steps
from tests.data.test_placement import assert_same_batches


def order(rows=1003, batch_size=20, rank=0, world_size=1, window_rows=512):
    return WindowedOrder(rows, batch_size, 3, rank, world_size, window_rows)


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    path = tmp_path_factory.mktemp("store") / "train.arrow"
    lists = {"list_ids": 3, "list_weights": 2}
    rng, names = np.random.default_rng(0), {"numericals": ["x"], "scenario": True, "targets": lists}
    with StoreWriter(path, 1003, ["a", "b"], ["click"], **names) as writer:
        writer.append(
            rng.integers(0, 99, (1003, 2), dtype=np.int32),
            rng.integers(0, 2, (1003, 1), dtype=np.int8),
            np.arange(1003),
            rng.random((1003, 1), dtype=np.float32),
            rng.integers(0, 3, 1003, dtype=np.int32),
            {
                "list_ids": rng.integers(0, 99, (1003, 3), dtype=np.int32),
                "list_weights": rng.random((1003, 2), dtype=np.float32),
            },
        )
    return ColumnStore(path)


@pytest.mark.parametrize(("rows", "window_rows"), [(1003, 512), (1003, 50), (512, 512), (513, 512), (7, 4096)])
def test_every_sample_once_per_epoch(rows, window_rows):
    plan = order(rows, 20, window_rows=window_rows)
    epochs = []
    for epoch in range(3):
        plan.set_epoch(epoch)
        epochs.append(np.concatenate(list(plan.batches())))
        assert sorted(epochs[-1]) == list(range(rows))
        assert epochs[-1].tolist() == plan.permutation().tolist()
        assert [len(b) for b in plan.batches()] == [len(b) for b in ShuffledOrder(rows, 20, 3).batches()]
    assert not np.array_equal(epochs[0], epochs[1])
    again = order(rows, 20, window_rows=window_rows)
    assert np.concatenate(list(again.batches())).tolist() == epochs[0].tolist()


def test_windows_have_similar_sizes_and_rows_from_all_of_their_blocks():
    plan = order(rows=64 * 128 * 3 + 1, window_rows=64 * 128)  # one row more than three windows
    windows = plan.windows_of(0)
    sizes = [len(blocks) for blocks in windows.blocks]
    assert len(sizes) == 4
    assert max(sizes) <= WINDOW_BLOCKS
    assert min(sizes) >= max(sizes) - 1
    first = next(iter(plan.batches()))
    assert len(set(first // plan.block_rows)) > 10
    assert set(first // plan.block_rows) <= set(windows.blocks[0].tolist())


@pytest.mark.parametrize("world_size", [2, 3])
@pytest.mark.parametrize("rows", [1003, 1000, 961])
def test_ranks_read_in_a_step_what_one_process_reads(rows, world_size):
    ranks = [list(order(rows, 20, rank, world_size).batches()) for rank in range(world_size)]
    single = list(order(rows, 20 * world_size).batches())
    steps = [np.concatenate(parts) for parts in zip(*ranks, strict=True)]
    assert_same_rows(steps[:-1], single[: len(steps) - 1])
    assert np.concatenate(steps).tolist() == np.concatenate(single)[: rows - rows % world_size].tolist()


@pytest.mark.parametrize("start", [1, 6, 7, 49])
def test_batches_from_a_later_step(start):
    assert_same_rows(order().batches(start), list(order().batches())[start:])


def assert_same_rows(ours, expected):
    assert [rows.tolist() for rows in ours] == [rows.tolist() for rows in expected]


@pytest.mark.parametrize("window_rows", [512, 50, 4096])
def test_batches_equal_those_of_the_mapped_file(store, window_rows):
    ours, mapped = (
        kind(store, order(window_rows=window_rows, rank=1, world_size=2)) for kind in (WindowLoader, BatchLoader)
    )
    for epoch in range(2):
        ours.set_epoch(epoch)
        mapped.set_epoch(epoch)
        assert_same_batches(ours, mapped)
    state = {"epoch": 1, "batch": 13, "window_rows": window_rows}
    assert {**state, "batch": len(ours)} == ours.state_dict()
    ours.load_state_dict(state)
    assert_same_batches(ours, list(mapped)[13:])


def test_evaluation_batches_equal_those_of_the_mapped_file(store):
    plan = SequentialOrder(len(store), 100)
    assert_same_batches(WindowLoader(store, plan), BatchLoader(store, plan))


@pytest.mark.parametrize("residence", ["device", "host"])
def test_blocks_of_steps(store, residence):
    """A block of steps may contain several windows."""
    blocks = BlockLoader(WindowLoader(store, order()), 20, residence=residence)
    assert_same_steps(blocks, list(BatchLoader(store, order())))


def test_only_two_windows_are_in_memory(store):
    loader = WindowLoader(store, order(batch_size=7))
    for _ in loader:
        kept = [loader._windows._windows._known, loader._windows._windows._next]
        rows = [len(entry[1].result()["ids"]) for entry in kept if entry is not None]
        assert max(rows) <= 512


def test_state_of_another_order_is_refused_within_an_epoch(store):
    loader = WindowLoader(store, order())
    for other, setting in (({}, "dataset.reading=memory"), ({"window_rows": 64}, "dataset.window_rows=64")):
        with pytest.raises(StemlabError, match=setting):
            loader.load_state_dict({"epoch": 0, "batch": 1, **other})
        loader.load_state_dict({"epoch": 0, "batch": len(loader), **other})
    mapped = BatchLoader(store, ShuffledOrder(len(store), 20, 3))
    for kind in (mapped, BlockLoader(mapped, 4)):
        with pytest.raises(StemlabError, match=r"dataset\.reading=blocks dataset\.window_rows=512"):
            kind.load_state_dict({"epoch": 0, "batch": 1, "window_rows": 512})


def test_a_shorter_file_is_reported(store, tmp_path):
    path = tmp_path / "train.arrow"
    path.write_bytes(store.path.read_bytes())
    file = ColumnFile(path)
    path.open("r+b").truncate(1000)
    with pytest.raises(StemlabError, match="shorter"):
        file.read([(0, 1003)])


def test_gathered_tensors_are_new(store):
    loader = WindowLoader(store, order())
    for batch in loader:
        batch.ids_BF.fill_(-1)
    assert torch.equal(next(iter(loader)).ids_BF, next(iter(BatchLoader(store, order()))).ids_BF)

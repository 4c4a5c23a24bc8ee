"""Blocks that pass through buffers of a GPU; the calls of CUDA are emulated on the CPU."""

import itertools
import threading
from contextlib import nullcontext

import pytest
import torch

from stemlab.data import streaming
from stemlab.data.batch_order import ShuffledOrder
from stemlab.data.blocks import BlockLoader
from stemlab.data.io.prefetch import THREAD_NAME
from stemlab.data.loader import BatchLoader
from stemlab.data.sequence.protocol import RankingProtocol
from tests.data.sequence.toys import Toy, leave_two_out, raw_of
from tests.data.test_blocks import assert_same_steps, columns


class Event:
    """Counts its records; a wait for an event that was never recorded is allowed, as in CUDA."""

    records = 0

    def record(self, stream):
        assert threading.current_thread() is threading.main_thread()
        self.records += 1

    def synchronize(self):
        assert self.records > 0


class Stream:
    def __init__(self, device=None):
        assert threading.current_thread() is threading.main_thread()

    def wait_event(self, event):
        assert threading.current_thread() is threading.main_thread()

    def wait_stream(self, other):
        pass


@pytest.fixture
def emulated(monkeypatch):
    """Let ``BlockStream`` take the path of a GPU with tensors on the CPU."""
    real = torch.empty

    def empty(*shape, device=None, pin_memory=False, **more):
        assert threading.current_thread() is threading.main_thread()
        return real(*shape, **more).fill_(77)

    cuda = {"Event": Event, "Stream": Stream, "stream": lambda stream: nullcontext(), "current_stream": Stream}
    for name, value in cuda.items():
        monkeypatch.setattr(streaming.torch.cuda, name, value)
    monkeypatch.setattr(streaming.torch, "empty", empty)
    built = streaming.BlockStream.__init__
    monkeypatch.setattr(
        streaming.BlockStream,
        "__init__",
        lambda self, take, device, capacity: built(self, take, torch.device("cuda"), capacity),
    )


def eager(batch_size=20):
    return BatchLoader(columns(203), ShuffledOrder(203, batch_size, seed=1))


@pytest.mark.usefixtures("emulated")
@pytest.mark.parametrize(("batch_size", "steps"), [(20, 2), (20, 99), (3, 7), (101, 1)])
def test_samples_of_impressions(batch_size, steps):
    loader, blocks = eager(batch_size), BlockLoader(eager(batch_size), steps, residence="host")
    for epoch in range(3):
        loader.set_epoch(epoch)
        blocks.set_epoch(epoch)
        batches = iter(loader)
        for block in blocks:  # a block is valid until the next one
            assert_same_steps([block], itertools.islice(batches, block.steps))
        assert next(batches, None) is None


@pytest.mark.usefixtures("emulated")
def test_samples_of_sequences(tmp_path):
    rows = leave_two_out(20, 50, seed=5)
    protocol = RankingProtocol(candidates="full")
    data = Toy(raw_of(rows, 20, 50), tmp_path, batch_size=16, history_max=7, num_negatives=2, evaluation=protocol)
    loader, blocks = data.train_loader(), BlockLoader(data.train_loader(), 5, residence="host")
    for epoch in (0, 3):
        loader.set_epoch(epoch)
        blocks.set_epoch(epoch)
        batches = iter(loader)
        for block in blocks:
            assert_same_steps([block], itertools.islice(batches, block.steps))


@pytest.mark.usefixtures("emulated")
def test_an_epoch_may_be_left_and_the_thread_ends():
    blocks = BlockLoader(eager(), 2, residence="host")
    for stop in (0, 1, 3):
        iterator = iter(blocks)
        for _ in range(stop):
            next(iterator)
        iterator.close()
        assert not [thread for thread in threading.enumerate() if thread.name == THREAD_NAME]
    blocks.set_epoch(1)
    assert len(list(blocks)) == len(blocks)


@pytest.mark.usefixtures("emulated")
def test_an_error_in_the_thread_is_raised():
    loader = eager()
    blocks = BlockLoader(loader, 2, residence="host")
    iterator = iter(blocks)
    next(iterator)
    loader.columns.labels = None
    with pytest.raises((TypeError, ValueError, AttributeError)):
        list(iterator)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("residence", ["device", "host"])
def test_blocks_on_a_gpu(residence):
    loader, blocks = eager(), BlockLoader(eager(), 2, "cuda", residence)
    for epoch in range(3):
        loader.set_epoch(epoch)
        blocks.set_epoch(epoch)
        batches = iter(loader)
        for block in blocks:
            assert block.rows_SB.device.type == block.columns.device.type == "cuda"
            for step in range(block.steps):
                ours, expected = block.batch(step).to("cpu"), next(batches)
                assert all(torch.equal(ours.tensors()[name], value) for name, value in expected.tensors().items())

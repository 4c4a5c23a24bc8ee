"""Batches gathered from columns on a device equal those from main memory; where the columns of a training are."""

from dataclasses import fields

import numpy as np
import pytest
import torch

from stemlab.data.batch_order import SequentialOrder, ShuffledOrder
from stemlab.data.blocks import BlockLoader
from stemlab.data.loader import BatchLoader
from stemlab.data.placement import Placement, ResidentLoader
from stemlab.data.resident import DEVICE_SHARE, Uploads, choose_residence
from stemlab.data.sequence.protocol import RankingProtocol
from stemlab.data.sequence.resident import SequenceColumns
from stemlab.metrics.catalogue import SeenTable
from tests.data.sequence.toys import Toy, leave_two_out, raw_of
from tests.data.test_blocks import assert_same_steps, columns, steps_of


def assert_same_batches(ours, expected):
    ours, expected = list(ours), list(expected)
    assert len(ours) == len(expected)
    for one, other in zip(ours, expected, strict=True):
        assert one.tensors().keys() == other.tensors().keys()
        assert all(torch.equal(tensor, other.tensors()[name]) for name, tensor in one.tensors().items())
        assert all(tensor.dtype == other.tensors()[name].dtype for name, tensor in one.tensors().items())


@pytest.mark.parametrize("order", [ShuffledOrder(103, 20, seed=1), SequentialOrder(103, 20)])
def test_batches_of_impressions(order):
    eager = BatchLoader(columns(103), order)
    ours = ResidentLoader(eager, Uploads("cpu"))
    assert_same_batches(ours, eager)
    ours.set_epoch(1)
    ours.load_state_dict({"epoch": order.epoch, "batch": 2})
    assert_same_batches(ours, list(eager)[2:])


def sequences(folder, **settings):
    rows = leave_two_out(20, 50, seed=5)
    return Toy(raw_of(rows, 20, 50), folder, batch_size=16, history_max=7, num_negatives=2, **settings)


def test_batches_of_sequences_have_the_width_of_their_longest_history(tmp_path):
    data = sequences(tmp_path, evaluation=RankingProtocol(candidates="full"))
    uploads = Uploads("cpu")
    for split in ("valid", "test"):
        assert_same_batches(ResidentLoader(data.eval_loader(split), uploads), data.eval_loader(split))
    ours, eager = ResidentLoader(data.train_loader(), uploads), data.train_loader()
    for epoch in range(2):
        ours.set_epoch(epoch)
        eager.set_epoch(epoch)
        assert_same_batches(ours, eager)


@pytest.mark.parametrize("rank", [0, 1])
def test_the_width_of_a_training_batch_does_not_depend_on_the_rank(tmp_path, rank):
    data = sequences(tmp_path)
    eager, ours = data.train_loader(), data.train_loader()
    for loader in (eager, ours):
        loader.order = ShuffledOrder(len(loader.instances), 2, seed=0, rank=rank, world_size=2)
    assert_same_batches(ResidentLoader(ours, Uploads("cpu")), eager)


def test_a_column_is_copied_once():
    uploads, arrays = Uploads("cpu"), columns(9)
    assert uploads(arrays.ids) is uploads(arrays.ids)
    assert uploads(arrays.ids) is not uploads(arrays.labels)
    assert uploads.optional(None) is None


def test_datamodules_give_blocks_on_request(tmp_path):
    data = sequences(tmp_path)
    assert data.placement.residence is None
    data.placement.use_blocks(4, limit=6)
    blocks = data.train_dataloader()
    assert isinstance(blocks, BlockLoader)
    assert blocks.residence == data.placement.residence == "device"
    assert [block.steps for block in blocks] == [4, 2]
    assert_same_steps(blocks, list(data.train_loader())[:6])
    assert data.transfer_batch_to_device(next(iter(blocks)), torch.device("cpu"), 0).steps == 4
    data.placement.use_blocks(0)
    assert len(steps_of(BlockLoader(data.train_dataloader(), 5))) == len(data.train_loader())


@pytest.mark.parametrize(
    ("wanted", "device", "needed", "expected"),
    [
        ("auto", "cuda", int(1000 * DEVICE_SHARE), "device"),
        ("auto", "cuda", int(1000 * DEVICE_SHARE) + 1, "host"),
        ("device", "cuda", 10**9, "device"),
        ("host", "cuda", 1, "host"),
        ("auto", "cpu", 10**9, "device"),
        ("host", "cpu", 1, "host"),
    ],
)
def test_residence_of_columns(wanted, device, needed, expected, monkeypatch):
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (1000, 2000))
    assert choose_residence(wanted, lambda: needed, torch.device(device)) == expected


@pytest.mark.parametrize(("wanted", "kind"), [("device", ResidentLoader), ("host", BatchLoader)])
def test_evaluation_batches_on_a_gpu(wanted, kind, tmp_path):
    eager, placement = BatchLoader(columns(9), SequentialOrder(9, 4)), Placement(wanted)
    assert type(placement.evaluation(eager, torch.device("cuda"), lambda: tmp_path)) is kind
    assert placement.residence == wanted
    assert placement.evaluation(eager, torch.device("cpu"), lambda: tmp_path) is eager


def test_seen_items_from_columns_on_the_device(tmp_path):
    data = sequences(tmp_path)
    table = SeenTable(*data.seen_columns(torch.device("cpu")))
    for users in ([1], [7, 3, 3, 20], []):
        found = table.of_users(torch.tensor(users, dtype=torch.int64))
        item_S, offset_O = data.seen_items(np.array(users, dtype=np.int64))
        assert found.item_S.tolist() == item_S.tolist()
        assert found.offset_O.tolist() == offset_O.tolist()
        assert found.item_S.dtype == found.offset_O.dtype == torch.int64


def test_batches_are_gathered_without_the_host(tmp_path):
    """Operations on the meta device fail if they need values."""
    data, uploads = sequences(tmp_path), Uploads("cpu")
    resident = data.train_loader().resident(uploads)
    on_meta = {
        field.name: value.to("meta") if isinstance(value := getattr(resident, field.name), torch.Tensor) else value
        for field in fields(resident)
    }
    rows_B = torch.empty(5, dtype=torch.int64, device="meta")
    batch = SequenceColumns(**on_meta).take(rows_B)
    assert {name: tuple(tensor.shape) for name, tensor in batch.tensors().items()} == {
        **{"user_B": (5,), "history_BL": (5, 7), "length_B": (5,), "candidates_BN": (5, 3)},
        **{"time_BL": (5, 7), "unit_B": (5,)},
    }
    columns_of_impressions = BatchLoader(columns(9), SequentialOrder(9, 4)).resident(uploads).to("meta")
    assert len(columns_of_impressions.take(rows_B)) == 5

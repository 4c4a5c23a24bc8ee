"""Parity with the released reader: instances, histories, candidates (golden/rechorus/dataset_toy)."""

import numpy as np
import pytest
import torch

from stemlab.data.sequence.log import InteractionLog
from stemlab.data.sequence.raw import RawSequences
from tests.data.sequence.toys import Toy

SPLITS = {"train": "train", "valid": "dev", "test": "test"}


@pytest.fixture
def toy(golden, tmp_path):
    saved = np.load(golden / "rechorus" / "dataset_toy.npz")
    logs = [saved[f"input/{name}_log"] for name in SPLITS.values()]
    rows = np.concatenate(logs)
    users, items = (int(n) - 1 for n in saved["output/n_users_n_items"])
    raw = RawSequences(
        user=rows[:, 0],
        item=rows[:, 1],
        time=rows[:, 2],
        split=np.repeat([0, 1, 2], [len(log) for log in logs]),
        user_tokens=[str(u) for u in range(1, users + 1)],
        item_tokens=[str(i) for i in range(1, items + 1)],
        negatives={split: saved[f"input/{SPLITS[split]}_neg_items"] for split in ("valid", "test")},
    )
    data = Toy(raw, tmp_path, history_max=5, batch_size=7, eval_batch_size=3)
    data.prepare()
    return saved, data


def whole(loader):
    """Return all instances of a loader in one batch."""
    return loader.take(slice(0, len(loader.instances)))


@pytest.mark.parametrize("split", SPLITS)
def test_instances_equal_the_released_code(toy, split):
    saved, data = toy
    wanted = {
        key.removeprefix(f"output/{SPLITS[split]}_"): saved[key]
        for key in saved.files
        if key.startswith(f"output/{SPLITS[split]}_")
    }
    loader = {"train": data.train_dataloader, "valid": data.val_dataloader, "test": data.test_dataloader}[split]()
    batch = whole(loader)
    # ours are sorted by user and time, the released ones are in file order
    order = np.lexsort((wanted["position"], wanted["user_id"]))
    assert len(batch) == len(order) == data.rows(split)
    np.testing.assert_array_equal(batch.user_B, wanted["user_id"][order])
    np.testing.assert_array_equal(batch.length_B, wanted["lengths"][order])
    np.testing.assert_array_equal(batch.history_BL, wanted["history_items"][order])
    np.testing.assert_array_equal(batch.time_BL, wanted["history_times"][order])
    stored = 1 if split == "train" else wanted["item_id"].shape[1]
    np.testing.assert_array_equal(batch.candidates_BN[:, :stored], wanted["item_id"][order][:, :stored])
    position = data.log.start[batch.user_B.numpy()] + wanted["position"][order]
    np.testing.assert_array_equal(loader.instances.row, position)
    if split == "train":
        assert batch.row_B is None
    else:
        np.testing.assert_array_equal(batch.row_B, position)


def test_sizes_and_training_pairs(toy):
    saved, data = toy
    assert (data.sizes.users, data.sizes.items, data.sizes.history_max) == (8, 39, 5)
    pairs = sorted(zip(*data.training_pairs(), strict=True))
    assert pairs == sorted(map(tuple, saved["input/train_log"][:, :2].tolist()))
    flat, offsets = data.seen_items(np.array([3, 1]))
    log = saved["input/log_all"]
    assert flat[: offsets[1]].tolist() == log[log[:, 0] == 3, 1].tolist()
    assert flat[offsets[1] :].tolist() == log[log[:, 0] == 1, 1].tolist()
    assert offsets.tolist() == [0, 12, 19]


def test_smallest_gaps_equal_the_released_code(golden, tmp_path):
    saved = np.load(golden / "rechorus" / "tisasrec_1layer_1head.npz")
    user, item, time = saved["input/corpus_log"].T
    table = saved["input/user_min_interval_table"]
    assert (table[:, 1] == 65535).any()  # some users have no positive gap
    raw = RawSequences(
        user=user,
        item=item,
        time=time,
        split=np.zeros(len(user), dtype=np.int8),
        user_tokens=[str(u) for u in range(1, 41)],
        item_tokens=[str(i) for i in range(1, 60)],
    )
    log = InteractionLog(Toy(raw, tmp_path).prepare())
    np.testing.assert_array_equal(log.unit[table[:, 0]], table[:, 1])


def test_batch_moves_to_a_device(toy):
    batch = next(iter(toy[1].train_dataloader())).to("cpu")
    assert len(batch) == 7
    assert batch.unit_B.dtype == batch.user_B.dtype == batch.candidates_BN.dtype == torch.int64

"""First interactions of users are training instances only for models that read no history."""

import pickle

import numpy as np
import pytest
import torch

from stemlab.config.compose import compose
from stemlab.runs.build import build_datamodule
from tests.data.sequence.toys import Toy, leave_two_out, raw_of

USERS, ITEMS = 23, 30


@pytest.fixture
def data(tmp_path):
    lists = {split: np.ones((USERS, 2), dtype=np.int64) for split in ("valid", "test")}
    return Toy(raw_of(leave_two_out(USERS, ITEMS, seed=3), USERS, ITEMS, negatives=lists), tmp_path, batch_size=16)


def trained(data):
    """Return user, item and length of every instance of an epoch, sorted."""
    batches = list(data.train_dataloader())
    for batch in batches:
        assert (batch.history_BL > 0).sum(dim=1).tolist() == batch.length_B.tolist()
    rows = [torch.stack([b.user_B, b.candidates_BN[:, 0], b.length_B], dim=1) for b in batches]
    return sorted(map(tuple, torch.cat(rows).tolist()))


def test_first_interactions_are_instances_if_requested(data):
    usual, (user, item) = trained(data), data.training_pairs()
    assert min(length for _, _, length in usual) == 1
    data.first_interactions = True
    every = trained(data)
    assert [(u, i) for u, i, _ in every] == sorted(zip(user.tolist(), item.tolist(), strict=True))
    first = [(int(data.log.user[row]), int(data.log.item[row]), 0) for row in data.log.start[1:]]
    assert sorted(set(every) - set(usual)) == first
    assert (len(usual), data.rows("train")) == (len(every) - USERS, len(every))
    assert data.rows("valid") == data.rows("test") == USERS


def test_evaluation_is_unchanged(data):
    before = [batch.row_B.tolist() for loader in (data.val_dataloader(), data.test_dataloader()) for batch in loader]
    data.first_interactions = True
    after = [batch.row_B.tolist() for loader in (data.val_dataloader(), data.test_dataloader()) for batch in loader]
    assert before == after


def test_first_interactions_survive_pickling(data):
    data.first_interactions = True
    instances = data.train_dataloader().instances
    assert pickle.loads(pickle.dumps(instances)).row.tolist() == instances.row.tolist()


@pytest.mark.parametrize(
    ("model", "wanted"),
    [("bprmf", True), ("lightgcn", True), ("pop", True), ("timirec", False), ("youtube", False), ("tisasrec", False)],
)
def test_model_determines_first_interactions(model, wanted):
    assert build_datamodule(compose("train", [f"model={model}", "dataset=grocery"])).first_interactions is wanted

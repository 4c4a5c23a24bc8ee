"""Estimated activations: proportional to the batch size, independent of the size of the tables."""

from dataclasses import replace

import pytest
import torch

from stemlab.config.compose import compose
from stemlab.data.spec import DatasetSpec, Field, Label, SequenceSizes
from stemlab.lightning.label_columns import LabelColumns
from stemlab.runs.random_batches import activation_bytes, random_batch

SPEC = DatasetSpec("tiktok", (Field("uid", 50), Field("item_id", 9)), ("finish", "like"), scenarios=("a", "b"))
SIZES = SequenceSizes(users=20, items=30, history_max=4)


@pytest.fixture(scope="module")
def config():
    words = ["model=shared_bottom", "model.net.bottom_hidden_units=[8]", "model.net.tower_hidden_units=[4]"]
    return compose("train", [*words, "dataset.fields=[uid,item_id]", "dataset.batch_size=160"])


def test_activations_are_proportional_to_the_batch_size(config):
    state = torch.get_rng_state()
    estimate = activation_bytes(config, SPEC)
    assert estimate > 160 * 4 * (32 + 8 + 2 * 4)  # the inputs of the layers are kept
    doubled = {**config, "dataset": {**config["dataset"], "batch_size": 320}}
    assert activation_bytes(doubled, SPEC) == 2 * estimate
    wide = replace(SPEC, fields=tuple(replace(field, size=10**9) for field in SPEC.fields))
    assert activation_bytes(config, wide) == pytest.approx(estimate, rel=0.2)
    assert torch.equal(torch.get_rng_state(), state)


def test_random_batches_have_valid_ids():
    batch = random_batch(SPEC, 200, 1)
    assert all(top < size for top, size in zip(batch.ids_BF.amax(0).tolist(), (50, 9), strict=True))
    assert batch.labels_BT.shape == (200, 2)
    assert set(batch.scenario_B.tolist()) == {0, 1}
    sequences = random_batch(SIZES, 200, 3)
    assert sequences.candidates_BN.shape == (200, 4)
    assert sequences.history_BL.shape == (200, 4)
    assert (sequences.history_BL.min(), sequences.history_BL.max()) == (1, 30)


def test_random_batches_have_the_labels_that_a_loss_reads():
    labels = (Label("like", given="finish"), Label("seconds", "regression"))
    spec = replace(SPEC, tasks=("finish", "like", "seconds"), labels=labels, weight="w")
    batch, columns = random_batch(spec, 50, 1), LabelColumns(spec, spec.tasks)
    assert columns.labels(batch).shape == (50, 3)
    assert columns.weights(batch).shape == (50, 3)
    assert 0 < columns.mask(batch).float().mean() < 1

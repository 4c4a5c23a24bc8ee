"""Trainings whose tables are trained by rows: in blocks as in batches, resumed, compiled."""

import copy
from pathlib import Path

import pytest
import torch
from torch import nn

from stemlab.data.batch import ImpressionBatch
from stemlab.nn.embedding import FieldEmbedding
from stemlab.nn.row_embedding import use_row_gradients
from stemlab.optim import OptimConfig, PlateauConfig
from tests.lightning.toy_training import Training, by_rows, make

RULES = ("sparse_adam", "rowwise_adagrad")


@pytest.mark.parametrize("rule", RULES)
def test_blocks_and_a_resumed_run_equal_the_training_in_batches(rule: str, tmp_path: Path) -> None:
    expected = Training(make("stem"), 0, tmp_path / "batches", **by_rows(rule)).fit()
    Training(make("stem"), 4, tmp_path / "blocks", epochs=2, **by_rows(rule)).fit()
    resumed = Training(make("stem"), 4, tmp_path / "resumed", **by_rows(rule))
    resumed.fit(tmp_path / "blocks" / "last.ckpt")
    for a, b in zip(resumed.module.parameters(), expected.module.parameters(), strict=True):
        assert torch.equal(a, b)
    assert resumed.emulated.captures > 0
    assert resumed.trainer.optimizers[0].param_groups[-1]["tables"] == rule


def test_a_plateau_reduces_both_learning_rates(tmp_path: Path) -> None:
    optim = OptimConfig(lr=0.5, tables="sparse_adam", tables_lr=1.0, plateau=PlateauConfig(factor=0.5, threshold=1.0))
    training = Training(make("mmoe"), 0, tmp_path, epochs=2, optim=optim).fit()
    rates = [group["lr"] for group in training.trainer.optimizers[0].param_groups]
    assert rates == pytest.approx([0.25, 0.5])
    assert training.module.learning_rate() == rates[0]


def test_lookups_of_a_compiled_network_have_sparse_gradients() -> None:
    plain = FieldEmbedding({"user": 4, "item": 5}, ["shared"], 3, padding=True)
    use_row_gradients(plain)
    compiled = copy.deepcopy(plain)
    torch._dynamo.reset()
    nn.Module.compile(compiled, backend="aot_eager", dynamic=False)
    for embedding in (compiled, plain):
        embedding(torch.tensor([[0, 1], [2, 1], [2, 3]]))[0].square().sum().backward()
    for a, b in zip(compiled.weights(), plain.weights(), strict=True):
        assert a.grad.is_sparse
        torch.testing.assert_close(a.grad.to_dense(), b.grad.to_dense())


def test_evaluation_and_copies_look_up_plain_rows() -> None:
    net = make("stem").eval()
    batch = ImpressionBatch(torch.tensor([[0, 1], [2, 1]]))
    expected = net(batch).logit_BT
    use_row_gradients(net)
    assert torch.equal(net(batch).logit_BT, expected)
    with torch.no_grad():
        assert torch.equal(net(batch).logit_BT, expected)

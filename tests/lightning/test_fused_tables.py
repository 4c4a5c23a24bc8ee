"""Tables that FBGEMM trains in the backward pass: the same training as row-wise Adagrad, resumed exactly."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from stemlab.data.batch import ImpressionBatch
from stemlab.data.spec import ImpressionSizes
from stemlab.errors import StemlabError
from stemlab.nn import fused_tables
from stemlab.nn.embedding import FieldEmbedding
from stemlab.nn.fused_tables import FusedFields, plain_lookups
from stemlab.optim import OptimConfig, Penalty, build_optimizer
from tests.lightning.toy_training import Training, by_rows, make

pytest.importorskip("fbgemm_gpu", reason="make torchrec")
from fbgemm_gpu.split_table_batched_embeddings_ops_common import EmbeddingLocation
from fbgemm_gpu.split_table_batched_embeddings_ops_training import ComputeDevice

SIZES = ImpressionSizes(
    {"user": 9, "item": 8, "last_item": 8}, scenarios=("a", "b"), scenario_feature=True, tables={"last_item": "item"}
)


def settings(rule: str) -> dict[str, Any]:
    chosen = by_rows(rule)
    return chosen | {"optim": replace(chosen["optim"], clip_norm=None)}


def test_a_training_equals_row_wise_adagrad_and_resumes_exactly(tmp_path: Path) -> None:
    rule = "torchrec_rowwise_adagrad"
    expected = Training(make("stem"), 0, tmp_path / "rows", **settings("rowwise_adagrad")).fit()
    found = Training(make("stem"), 0, tmp_path / "fused", **settings(rule)).fit()
    weights, others = found.module.state_dict(), expected.module.state_dict()
    assert list(weights) == list(others)
    for name, value in others.items():
        torch.testing.assert_close(weights[name], value, rtol=1e-4, atol=1e-5, msg=name)
    Training(make("stem"), 0, tmp_path / "begun", epochs=2, **settings(rule)).fit()
    resumed = Training(make("stem"), 0, tmp_path / "resumed", **settings(rule))
    resumed.fit(tmp_path / "begun" / "last.ckpt")
    for name, value in resumed.module.state_dict().items():
        assert torch.equal(value, weights[name]), name


def test_shared_and_padded_tables_have_the_penalty_once_per_row() -> None:
    torch.manual_seed(0)
    plain, fused = (FieldEmbedding(SIZES, ["shared"], 4, padding=True) for _ in range(2))
    fused.load_state_dict(plain.state_dict())
    before = [weight.detach().clone() for weight in plain.weights()]
    fused.fused = FusedFields(fused, eps=1e-8, l1=0.01, l2=0.1)
    fused.fused.rate = lambda: 0.5
    ids_BF, scenario_B = torch.tensor([[0, 3, 3], [2, 3, 0], [2, 5, 7]]), torch.tensor([0, 1, 1])
    for embedding in (plain, fused):
        embedding(ids_BF, None, scenario_B)[0].square().sum().backward()
    for weight, first, changed in zip(plain.weights(), before, fused.weights(), strict=True):
        assert weight.grad is not None
        rows = (weight.grad != 0).any(dim=1, keepdim=True)
        grad = weight.grad + rows * (0.1 * first + 0.01 * first.sign())
        expected = first - 0.5 * grad / (grad.square().mean(dim=1, keepdim=True).sqrt() + 1e-8)
        torch.testing.assert_close(changed.detach(), expected)
        assert changed.grad is None


def test_a_second_backward_pass_is_refused_and_diagnostics_change_nothing() -> None:
    net = make("mmoe")
    optim = OptimConfig(tables="torchrec_rowwise_adagrad", clip_norm=None)
    build_optimizer(net, optim, Penalty(), Penalty())
    before = {name: weight.detach().clone() for name, weight in net.named_parameters()}
    batch = ImpressionBatch(torch.tensor([[1, 1], [2, 1]]))
    with plain_lookups(net):
        net(batch).logit_BT.sum().backward()
    table = net.embedding.weights()[0]
    assert table.grad is not None
    assert all(torch.equal(weight, before[name]) for name, weight in net.named_parameters())
    loss = net(batch).logit_BT.sum()
    loss.backward(retain_graph=True)
    assert not torch.equal(table, before["embedding.tables.0.weight"])
    with pytest.raises(StemlabError, match="second"):
        loss.backward()


def test_ids_beyond_a_table_are_errors() -> None:
    embedding = FieldEmbedding({"user": 4}, ["shared"], 4, padding=False)
    embedding.fused = FusedFields(embedding, eps=1e-8, l1=0.0, l2=0.0)
    embedding.fused.rate = lambda: 0.1
    with pytest.raises(RuntimeError):
        embedding(torch.tensor([[4]]))


def test_widths_that_fbgemm_cannot_read_are_refused() -> None:
    with pytest.raises(StemlabError, match="multiple of 4"):
        FusedFields(FieldEmbedding({"user": 4}, ["shared"], 6, padding=False), eps=1e-8, l1=0.0, l2=0.0)


def test_tables_on_a_gpu_are_built_for_it_if_fbgemm_has_the_operators(monkeypatch: pytest.MonkeyPatch) -> None:
    """Construction only: no GPU is needed, and nothing is looked up. Tensors of the device ``meta`` have no memory."""
    embedding = FieldEmbedding(SIZES, ["shared"], 4, padding=False).to("meta")
    with pytest.raises(StemlabError, match="GPUs"):
        FusedFields(embedding, eps=1e-8, l1=0.0, l2=0.0)
    monkeypatch.setattr(fused_tables, "_check_gpu_operators", lambda: None)
    fields = FusedFields(embedding, eps=1e-8, l1=0.0, l2=0.0)
    operator = fields._operator
    assert not operator.use_cpu
    assert {spec[2:] for spec in operator.embedding_specs} == {(EmbeddingLocation.DEVICE, ComputeDevice.CUDA)}
    assert operator.feature_table_map == [0, 1, 1, 2]
    assert [sums.shape for sums in fields.row_sums] == [(9,), (8,), (4,)]
    assert {tensor.device.type for tensor in (*fields.row_sums, fields._start_F1, fields._offset_N)} == {"meta"}


def test_torchrec_trains_alike() -> None:
    """The same updates as a ``FusedEmbeddingBagCollection`` of TorchRec."""
    torchrec = pytest.importorskip("torchrec", reason="make torchrec")
    from torchrec.modules.fused_embedding_modules import FusedEmbeddingBagCollection

    embedding = FieldEmbedding({"user": 5, "item": 6}, ["shared"], 4, padding=False)
    configs = [
        torchrec.EmbeddingBagConfig(name=name, embedding_dim=4, num_embeddings=rows, feature_names=[name])
        for name, rows in (("user", 5), ("item", 6))
    ]
    collection = FusedEmbeddingBagCollection(
        tables=configs,
        optimizer_type=torchrec.optim.RowWiseAdagrad,
        optimizer_kwargs={"lr": 0.2, "eps": 1e-8},
        device=torch.device("cpu"),
    )
    with torch.no_grad():
        for own, weight in zip(embedding.weights(), collection.state_dict().values(), strict=True):
            own.copy_(weight)
    embedding.fused = FusedFields(embedding, eps=1e-8, l1=0.0, l2=0.0)
    embedding.fused.rate = lambda: 0.2
    ids_BF = torch.tensor([[1, 2], [1, 3], [4, 2]])
    for _ in range(3):
        keyed = torchrec.KeyedJaggedTensor.from_lengths_sync(
            ["user", "item"], ids_BF.t().flatten(), lengths=torch.ones(6, dtype=torch.int32)
        )
        collection(keyed).values().square().sum().backward()
        embedding(ids_BF)[0].square().sum().backward()
    for own, weight in zip(embedding.weights(), collection.state_dict().values(), strict=True):
        torch.testing.assert_close(own.detach(), weight)

"""Tables with pretrained vectors in every network for impressions."""

from __future__ import annotations

import re
from typing import Any

import pytest
import torch
from torch import nn

from stemlab.data.batch import ImpressionBatch
from stemlab.data.spec import DatasetSpec, Field, ImpressionSizes, ValueList
from stemlab.errors import StemlabError
from stemlab.lightning.balancing.shared_parameters import TaskBlocks, task_blocks
from stemlab.models.multitask.gradient_cosines import gradient_cosines, record_lookups
from stemlab.models.multitask.stem import STEM
from stemlab.nn.embedding import FieldEmbedding
from stemlab.nn.pretrained_tables import set_vectors, use_pretrained
from stemlab.nn.row_embedding import use_row_gradients
from stemlab.optim import OptimConfig, Penalty, build_optimizer
from stemlab.runs.build import build_net
from tests.conf_files import model_config, model_names
from tests.test_matrix import small

GENRES = Field("genres", 6, "list", values=ValueList(3))
HISTORY = Field("history", 10, "list", table="item_id", values=ValueList(2, "din", target="item_id"))
FIELDS = (Field("user_id", 12), Field("item_id", 10), GENRES, HISTORY)
SPEC = DatasetSpec("log", FIELDS, ("click", "buy"), scenarios=("home", "search"))
IDS = torch.tensor([3, 1, 7])
MODELS = [name for name in model_names() if model_config(name)["family"] == "multitask"]


def batch() -> ImpressionBatch:
    lists = torch.tensor([[1, 2, 0, 3, 0], [4, 0, 0, 1, 7], [0, 0, 0, 0, 0], [5, 5, 1, 7, 3]], dtype=torch.int32)
    ids = torch.tensor([[1, 3], [2, 1], [11, 5], [4, 7]], dtype=torch.int32)
    return ImpressionBatch(ids, scenario_B=torch.tensor([0, 1, 0, 1], dtype=torch.int32), list_ids_BK=lists)


def net_of(model: str, pretrained: dict[str, Any]) -> nn.Module:
    settings = model_config(model)
    settings |= {"net": small(settings["net"]), "pretrained": pretrained}
    torch.manual_seed(0)
    return build_net({"model": settings, "dataset": {"tasks": list(SPEC.tasks)}}, SPEC)


@pytest.mark.parametrize("model", MODELS)
def test_every_network_reads_and_trains_them(model: str) -> None:
    net = net_of(model, {"item_id": {"file": "a.npy", "width": 5}, "user_id": {"file": "b.npy", "width": 8}})
    plain = net_of(model, {})
    vectors, equal = torch.randn(3, 5), torch.randn(3, 8)
    set_vectors(net, "item_id", IDS, vectors)
    if model != "ame":  # its tables have several widths, so that all vectors are projected
        set_vectors(net, "user_id", IDS, equal)
    embeddings = [part for part in net.modules() if isinstance(part, FieldEmbedding)]
    for embedding in embeddings:
        assert embedding.weights()[1][[0, 2, 9]].abs().sum() == 0  # padding, missing, out-of-vocabulary
        for role, table in embedding.views()["item_id"].items():
            assert table.shape == (10, embedding.embedding_dim), role
            assert table[0].abs().sum() == 0
    kept = [(name, weight) for name, weight in plain.named_parameters() if not re.search(r"tables\.[01]\.", name)]
    assert all(torch.equal(weight, net.get_parameter(name)) for name, weight in kept)  # drawn as without vectors
    output = net.eval()(batch()).logit_BT
    set_vectors(net, "item_id", IDS, 50 * vectors)
    changed = net(batch()).logit_BT
    assert not torch.equal(output[0], changed[0])
    assert torch.equal(output[2], changed[2])  # a missing item
    changed.sum().backward()
    projections = [layer.weight for one in embeddings for key, layer in (one.projections or {}).items() if key == "1"]
    assert len(projections) == len(embeddings)
    assert any(weight.grad is not None and weight.grad.abs().sum() > 0 for weight in projections)
    assert all(one.weights()[1].grad is None for one in embeddings)


def stem(projection: bool | None = None, frozen: bool = False) -> STEM:
    sizes = ImpressionSizes({"user_id": 12, "item_id": 10})
    torch.manual_seed(0)
    units = {"expert_hidden_units": [4], "gate_hidden_units": [4], "tower_hidden_units": [4]}
    counts = {"num_layers": 1, "num_shared_experts": 1, "num_specific_experts": 1}
    net = STEM(sizes, ["click", "buy"], embedding_dim=4, **counts, **units)
    use_pretrained(net, "item_id", 4, frozen=frozen, projection=projection)
    return net


def test_every_table_of_stem_starts_from_them() -> None:
    net, vectors = stem(), torch.randn(3, 4)
    initial = net.embedding.weights()[1].detach().clone()
    set_vectors(net, "item_id", IDS, vectors)
    assert net.embedding.projections is None
    for table in net.embedding_tables()["item_id"].values():
        torch.testing.assert_close(table[IDS], vectors)
    others = [0, 2, 4, 5, 6, 8, 9]
    assert torch.equal(net.embedding.weights()[1][others], initial[others])  # trained: missing ids keep their values
    frozen = stem(frozen=True)
    set_vectors(frozen, "item_id", IDS, vectors)
    assert frozen.embedding.weights()[1][others].abs().sum() == 0


def test_tasks_have_projections_of_their_own() -> None:
    """The vectors are trained by all tasks, and the block of the projection by those that read the table."""
    net = stem(projection=True)
    set_vectors(net, "item_id", IDS, torch.randn(3, 4))
    some = ImpressionBatch(torch.tensor([[1, 3], [2, 1]]))
    blocks = task_blocks(net, some, 2)
    assert blocks[id(net.embedding.weights()[1])].blocks == (frozenset({0, 1}),)
    layer = net.embedding.projections["1"].weight
    assert layer.shape == (12, 4)
    assert blocks[id(layer)] == TaskBlocks(0, blocks[id(net.embedding.weights()[0])].blocks)


@pytest.mark.parametrize("frozen", [True, False])
def test_gradient_cosines_compare_trained_vectors(frozen: bool) -> None:
    net = stem(projection=True, frozen=frozen)
    set_vectors(net, "item_id", IDS, torch.randn(3, 4))
    with record_lookups(net) as lookups:
        losses = net(ImpressionBatch(torch.tensor([[1, 3], [2, 1]]))).logit_BT.sum(dim=0)
    assert [lookup.blocks for lookup in lookups] == ([3] if frozen else [3, 1])
    assert set(gradient_cosines(net, losses, ["click", "buy"], lookups)) == {("click", "buy")}


@pytest.mark.parametrize("rule", ["dense_adam", "sparse_adam", "rowwise_adagrad"])
def test_rules_of_tables_train_the_looked_up_vectors(rule: str) -> None:
    net = stem(projection=True)
    set_vectors(net, "item_id", IDS, torch.randn(3, 4))
    if rule != "dense_adam":
        use_row_gradients(net)
    optimizer = build_optimizer(net, OptimConfig(tables=rule, lr=0.1), Penalty(), Penalty())
    before = net.embedding.weights()[1].detach().clone()
    net(ImpressionBatch(torch.tensor([[1, 3], [2, 1]]))).logit_BT.sum().backward()
    optimizer.step()
    moved = (net.embedding.weights()[1] - before).abs().sum(dim=1) > 0
    assert moved.nonzero().flatten().tolist() == [1, 3]


@pytest.mark.parametrize(
    ("field", "width", "projection", "words"),
    [
        ("item_id", 5, False, "5 numbers.*width 8"),
        ("itm_id", 8, None, "no field.*item_id"),
        ("hist", 8, None, "table of 'item_id'"),
        ("scenario", 8, None, "no field"),
    ],
)
def test_tables_that_do_not_fit_are_refused(field: str, width: int, projection: bool | None, words: str) -> None:
    sizes = ImpressionSizes({"item_id": 5, "hist": 5}, scenarios=("a", "b"), tables={"hist": "item_id"})
    net = nn.ModuleList([FieldEmbedding(ImpressionSizes(**{**_of(sizes), "scenario_feature": True}), ["s"], 8, True)])
    with pytest.raises(StemlabError, match=words):
        use_pretrained(net, field, width, frozen=True, projection=projection)
    with pytest.raises(StemlabError, match="Linear"):
        use_pretrained(nn.Linear(2, 2), "item_id", 8, frozen=True, projection=None)


def _of(sizes: ImpressionSizes) -> dict[str, Any]:
    return {name: getattr(sizes, name) for name in ("fields", "scenarios", "tables")}

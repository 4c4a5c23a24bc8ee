"""Contracts of all multi-task networks: shapes, number of tasks, int32 and int64 ids, table views, error messages."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from stemlab.data.batch import ImpressionBatch
from stemlab.errors import StemlabError
from stemlab.models import multitask
from stemlab.models.api import MultiTaskNet
from tests.models.nets import FIELDS, SETTINGS, TASKS, build

ANY_TASKS = [name for name in SETTINGS if name not in ("SingleTask", "ESMM")]
PAIRS = [(name, tasks) for name in ANY_TASKS for tasks in (1, 2, 3, 4)] + [("SingleTask", 1), ("ESMM", 2)]
GATES = {"OMoE": lambda t: 1, "MMoE": lambda t: t, "MMoE_ME": lambda t: t}


@pytest.mark.parametrize(("name", "tasks"), PAIRS)
def test_any_number_of_tasks(name: str, tasks: int, batch: ImpressionBatch) -> None:
    net = build(name, tasks)
    output = net(batch)
    assert isinstance(net, MultiTaskNet)
    assert net.tasks == tuple(TASKS[:tasks])
    assert output.logit_BT.shape == (16, tasks)
    assert output.logit_BT.std(dim=0).min() > 0
    assert [len(layer) for layer in output.gates] == ([GATES.get(name, lambda t: t)(tasks)] if output.gates else [])
    for weight_BE in (weight for layer in output.gates for weight in layer):
        torch.testing.assert_close(weight_BE.sum(dim=1), torch.ones(16))


@pytest.mark.parametrize("name", SETTINGS)
def test_int32_ids_and_single_samples(name: str, batch: ImpressionBatch) -> None:
    net = build(name, 1 if name == "SingleTask" else 2).eval()
    wide = net(batch).logit_BT
    assert torch.equal(net(ImpressionBatch(batch.ids_BF.int())).logit_BT, wide)
    torch.testing.assert_close(net(ImpressionBatch(batch.ids_BF[3:4])).logit_BT, wide[3:4])


@pytest.mark.parametrize("name", SETTINGS)
def test_layer_settings_are_applied(name: str, batch: ImpressionBatch) -> None:
    tasks = 1 if name == "SingleTask" else 2
    net = build(name, tasks, batch_norm=True, net_dropout=0.5, hidden_activations="tanh")
    layers = list(net.modules())
    for kind in (nn.BatchNorm1d, nn.Dropout, nn.Tanh):
        assert any(isinstance(layer, kind) for layer in layers)
    assert not any(isinstance(layer, nn.ReLU) for layer in layers)
    assert not torch.equal(net(batch).logit_BT, net(batch).logit_BT)


@pytest.mark.parametrize("name", SETTINGS)
def test_padding_row_is_not_trained(name: str, batch: ImpressionBatch) -> None:
    for padding in (True, False):
        net = build(name, 1 if name == "SingleTask" else 2, padding=padding)
        net(ImpressionBatch(torch.zeros_like(batch.ids_BF))).logit_BT.square().sum().backward()
        trained = [weight.grad is not None and bool(weight.grad[0].any()) for weight in net.embedding_parameters()]
        assert trained == [not padding] * len(FIELDS)


@pytest.mark.parametrize(
    ("name", "roles"),
    [
        *((name, ["shared"]) for name in ("SharedBottom", "AITM", "ESMM", "OMoE", "MMoE", "MetaHeac", "PLE")),
        ("MMoE_ME", ["expert:0", "expert:1", "expert:2"]),
        ("PLE_ME", ["task:finish", "task:like", "shared"]),
        ("STEM", ["task:finish", "task:like", "shared"]),
    ],
)
def test_embedding_tables(name: str, roles: list[str]) -> None:
    net = build(name)
    tables = net.embedding_tables()
    assert {field: list(blocks) for field, blocks in tables.items()} == dict.fromkeys(FIELDS, roles)
    for (field, rows), weight in zip(FIELDS.items(), net.embedding_parameters(), strict=True):
        assert torch.equal(torch.cat(list(tables[field].values()), dim=1), weight)
        assert all(view.shape == (rows, 3) for view in tables[field].values())


@pytest.mark.parametrize(
    ("name", "tasks", "match"),
    [
        ("ESMM", 3, r"two tasks.*finish, like, share"),
        ("ESMM", 1, r"two tasks.*\(finish\)"),
        ("SingleTask", 2, r"SingleTask.*finish, like.*model\.task"),
        ("STEM", 0, "STEM.*one task"),
        ("MMoE", 0, "MMoE.*one task"),
    ],
)
def test_wrong_number_of_tasks(name: str, tasks: int, match: str) -> None:
    with pytest.raises(StemlabError, match=match):
        build(name, tasks)
    with pytest.raises(StemlabError, match=match):
        getattr(multitask, name).check_tasks(TASKS[:tasks])


@pytest.mark.parametrize(
    ("settings", "match"),
    [
        ({"num_shared_experts": 0, "num_specific_experts": 0}, "both 0"),
        ({"num_shared_experts": 0, "gate": "cgc"}, "gate=cgc"),
    ],
)
def test_stem_without_experts(settings: dict[str, object], match: str) -> None:
    with pytest.raises(StemlabError, match=match):
        build("STEM", **settings)
    with pytest.raises(StemlabError, match=match):
        multitask.STEM.check_settings({**SETTINGS["STEM"], "gate": "aftb", **settings})


@pytest.mark.parametrize("name", SETTINGS)
def test_state_dict_restores_the_logits(name: str, batch: ImpressionBatch) -> None:
    tasks = 1 if name == "SingleTask" else 2
    net, other = build(name, tasks), build(name, tasks, seed=1)
    before = net(batch).logit_BT
    assert not torch.equal(other(batch).logit_BT, before)
    other.load_state_dict(net.state_dict())
    assert torch.equal(other(batch).logit_BT, before)


@pytest.mark.parametrize("name", SETTINGS)
def test_bfloat16_autocast(name: str, batch: ImpressionBatch) -> None:
    net = build(name, 1 if name == "SingleTask" else 2)
    full = net(batch).logit_BT
    with torch.autocast("cpu", torch.bfloat16):
        logit_BT = net(batch).logit_BT
    torch.testing.assert_close(logit_BT.float(), full, atol=0.05, rtol=0.05)
    logit_BT.float().square().sum().backward()
    gradients = [parameter.grad for parameter in net.parameters() if parameter.grad is not None]
    assert all(gradient.dtype == torch.float32 and bool(gradient.isfinite().all()) for gradient in gradients)
    assert all(bool(weight.grad.any()) for weight in net.embedding_parameters())

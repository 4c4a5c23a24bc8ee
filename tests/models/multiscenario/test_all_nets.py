"""What every multi-scenario network promises: a row goes through its own scenario's parts, and no other row's."""

from __future__ import annotations

import re

import hypothesis.strategies as st
import pytest
import torch
from hypothesis import given, settings

from stemlab.data.batch import ImpressionBatch
from stemlab.errors import StemlabError
from stemlab.models.api import MultiTaskNet
from stemlab.models.multiscenario.base import ScenarioNet
from stemlab.models.multiscenario.hinet import HiNet
from stemlab.models.multiscenario.sar_net import SARNet
from stemlab.models.multitask import gate_shares
from tests.models.scenario_nets import FIELDS, NETS, SCENARIOS, SETTINGS, TASKS, build, part_of, rows_of

each = pytest.mark.parametrize("cls", NETS, ids=lambda cls: cls.__name__)
MIXED = [0, 2, 1, 1, 0, 2, 2, 0, 1, 0, 2, 1]
OWN_PART = re.compile(r"(?:^|\.)(?:norms|specific)\.(\d)\.")


@each
@pytest.mark.parametrize("tasks", [1, 2, 4])
@pytest.mark.parametrize("numericals", [0, 2])
def test_any_number_of_tasks_with_and_without_numericals(cls: type[ScenarioNet], tasks: int, numericals: int) -> None:
    net, batch = build(cls, tasks, numericals=numericals), rows_of(MIXED, numericals=numericals)
    output = net(batch)
    assert isinstance(net, MultiTaskNet)
    assert net.tasks == tuple(TASKS[:tasks])
    assert output.logit_BT.shape == (12, tasks)
    assert output.logit_BT.std(dim=0).min() > 0
    assert len(gate_shares(net, output)) == len(output.gates)


@each
def test_rows_are_scored_one_by_one_in_evaluation(cls: type[ScenarioNet]) -> None:
    net, batch = build(cls).eval(), rows_of(MIXED)
    logit_BT = net(batch).logit_BT
    for row in range(len(MIXED)):
        torch.testing.assert_close(net(part_of(batch, [row])).logit_BT[0], logit_BT[row])
    narrow = ImpressionBatch(batch.ids_BF.int(), dense_BN=batch.dense_BN, scenario_B=batch.scenario_B.long())
    assert torch.equal(net(narrow).logit_BT, logit_BT)


@pytest.mark.parametrize("cls", [cls for cls in NETS if cls is not SARNet], ids=lambda cls: cls.__name__)
def test_other_scenarios_rows_do_not_matter_in_training_either(cls: type[ScenarioNet]) -> None:
    # SAR-Net's shared experts have a batch norm of their own.
    batch = rows_of(MIXED)
    own = [row for row, scenario in enumerate(MIXED) if scenario == 1]
    torch.testing.assert_close(
        build(cls).train()(batch).logit_BT[own], build(cls).train()(part_of(batch, own)).logit_BT
    )


@each
def test_the_scenario_matters(cls: type[ScenarioNet]) -> None:
    net, batch = build(cls).eval(), rows_of(MIXED)
    logits = []
    for scenario in range(3):
        batch.scenario_B = torch.full((12,), scenario, dtype=torch.int32)
        logits.append(net(batch).logit_BT)
    assert all((logits[a] - logits[b]).abs().min() > 1e-6 for a, b in [(0, 1), (0, 2), (1, 2)])


def scenario_gradients(net: ScenarioNet, scenario: int) -> list[torch.Tensor]:
    """Return the gradients of what belongs to a scenario alone; zeros where they are absent."""
    found = []
    for name, parameter in net.named_parameters():
        grad = torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
        if match := OWN_PART.search(name):
            found += [grad] if int(match[1]) == scenario else []
        elif "_S" in name.rpartition(".")[2]:  # a matrix with a slice a scenario
            found.append(grad[scenario])
    return found


@each
@pytest.mark.parametrize("training", [True, False])
def test_foreign_scenarios_get_no_gradient(cls: type[ScenarioNet], training: bool) -> None:
    options = {"stop_foreign": True} if cls is HiNet else {}
    net = build(cls, **options).train(training)
    net(rows_of([1] * 6)).logit_BT.square().sum().backward()
    assert not any(grad.any() for scenario in (0, 2) for grad in scenario_gradients(net, scenario))
    own = scenario_gradients(net, 1)
    assert own
    assert all(grad.any() for grad in own)


@each
@settings(max_examples=15, deadline=None)
@given(scenarios=st.lists(st.integers(0, 2), min_size=2, max_size=6))
def test_a_training_batch_may_have_any_number_of_rows_of_a_scenario(
    cls: type[ScenarioNet], scenarios: list[int]
) -> None:
    net = build(cls).train()
    net(rows_of(scenarios)).logit_BT.square().sum().backward()
    gradients = {name: p.grad for name, p in net.named_parameters()}
    idle = {name for name, grad in gradients.items() if grad is None}
    assert all("gates.2." in name for name in idle)  # HiNet's last shared gate mixes for nobody
    assert all(grad.isfinite().all() for grad in gradients.values() if grad is not None)
    assert all(buffer.isfinite().all() for buffer in net.buffers())


@each
def test_one_scenario(cls: type[ScenarioNet]) -> None:
    batch = rows_of(None)
    logits = [build(cls, scenarios=count).eval()(batch).logit_BT for count in (0, 1)]
    assert torch.equal(*logits)
    assert logits[0].std(dim=0).min() > 0
    batch.scenario_B = torch.zeros(12, dtype=torch.int32)
    assert torch.equal(build(cls, scenarios=1).eval()(batch).logit_BT, logits[0])
    build(cls, scenarios=0).train()(batch).logit_BT.sum().backward()


@each
def test_plain_sizes_are_one_scenario(cls: type[ScenarioNet]) -> None:
    net = cls(FIELDS, ["click"], embedding_dim=3, **SETTINGS[cls])
    assert net.scenarios == ("all",)
    assert net(rows_of(None, numericals=0)).logit_BT.shape == (12, 1)


@each
def test_embedding_tables(cls: type[ScenarioNet]) -> None:
    net = build(cls)
    tables = net.embedding_tables()
    shapes = {field: tuple(tables[field]["shared"].shape) for field in FIELDS}
    assert shapes == {"uid": (11, 3), "item": (7, 3), "city": (5, 3)}
    vectors = tables.get("scenario_vectors", {})
    assert [tuple(v.shape) for v in vectors.values()] == ([] if cls is SARNet else [(len(SCENARIOS), 4)])
    assert [tuple(w.shape) for w in net.embedding_parameters()] == [(11, 3), (7, 3), (5, 3)]


@each
def test_padding_rows_are_never_trained(cls: type[ScenarioNet]) -> None:
    for padding in (True, False):
        net, batch = build(cls, padding=padding), rows_of(MIXED)
        batch.ids_BF[:] = 0
        net(batch).logit_BT.square().sum().backward()
        assert [bool(w.grad[0].any()) for w in net.embedding_parameters()] == [not padding] * 3


@each
def test_every_setting_of_a_layer_is_read(cls: type[ScenarioNet]) -> None:
    net, batch = build(cls, net_dropout=0.5, hidden_activations="tanh").train(), rows_of(MIXED)
    assert not torch.equal(net(batch).logit_BT, net(batch).logit_BT)
    assert any(isinstance(module, torch.nn.Tanh) for module in net.modules())


@each
def test_no_tasks(cls: type[ScenarioNet]) -> None:
    with pytest.raises(StemlabError, match=f"{cls.__name__} needs at least one task"):
        build(cls, tasks=0)

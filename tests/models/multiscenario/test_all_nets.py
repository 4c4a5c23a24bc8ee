"""Contracts of all multi-scenario networks: a sample uses only the modules of its own scenario."""

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
from tests.models.scenario_nets import (
    FIELDS,
    MIXED,
    NETS,
    SCENARIOS,
    SETTINGS,
    TASKS,
    build,
    random_batch,
    take_samples,
)

each = pytest.mark.parametrize("cls", NETS, ids=lambda cls: cls.__name__)
SCENARIO_MODULE = re.compile(r"(?:^|\.)(?:norms|specific)\.(\d)\.")


@each
@pytest.mark.parametrize("tasks", [1, 2, 4])
@pytest.mark.parametrize("numericals", [0, 2])
def test_any_number_of_tasks_with_and_without_numericals(cls: type[ScenarioNet], tasks: int, numericals: int) -> None:
    net, batch = build(cls, tasks, numericals=numericals), random_batch(MIXED, numericals=numericals)
    output = net(batch)
    assert isinstance(net, MultiTaskNet)
    assert net.tasks == tuple(TASKS[:tasks])
    assert output.logit_BT.shape == (12, tasks)
    assert output.logit_BT.std(dim=0).min() > 0
    assert len(gate_shares(net, output)) == len(output.gates)


@each
def test_samples_are_independent_in_evaluation(cls: type[ScenarioNet]) -> None:
    net, batch = build(cls).eval(), random_batch(MIXED)
    logit_BT = net(batch).logit_BT
    for sample in range(len(MIXED)):
        torch.testing.assert_close(net(take_samples(batch, [sample])).logit_BT[0], logit_BT[sample])
    narrow = ImpressionBatch(batch.ids_BF.int(), dense_BN=batch.dense_BN, scenario_B=batch.scenario_B.long())
    assert torch.equal(net(narrow).logit_BT, logit_BT)


@pytest.mark.parametrize("cls", [cls for cls in NETS if cls is not SARNet], ids=lambda cls: cls.__name__)
def test_samples_of_other_scenarios_do_not_matter_in_training(cls: type[ScenarioNet]) -> None:
    # Not SAR-Net: the batch norm of its shared experts sees all scenarios.
    batch = random_batch(MIXED)
    own = [sample for sample, scenario in enumerate(MIXED) if scenario == 1]
    torch.testing.assert_close(
        build(cls).train()(batch).logit_BT[own], build(cls).train()(take_samples(batch, own)).logit_BT
    )


@each
def test_logits_depend_on_the_scenario(cls: type[ScenarioNet]) -> None:
    net, batch = build(cls).eval(), random_batch(MIXED)
    logits = []
    for scenario in range(3):
        batch.scenario_B = torch.full((12,), scenario, dtype=torch.int32)
        logits.append(net(batch).logit_BT)
    assert all((logits[a] - logits[b]).abs().min() > 1e-6 for a, b in [(0, 1), (0, 2), (1, 2)])


def scenario_gradients(net: ScenarioNet, scenario: int) -> list[torch.Tensor]:
    """Return the gradients of the parameters of one scenario; zeros for absent ones."""
    found = []
    for name, parameter in net.named_parameters():
        grad = torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
        if match := SCENARIO_MODULE.search(name):
            found += [grad] if int(match[1]) == scenario else []
        elif "_S" in name.rpartition(".")[2]:  # one slice per scenario
            found.append(grad[scenario])
    return found


@each
@pytest.mark.parametrize("training", [True, False])
def test_foreign_scenarios_get_no_gradient(cls: type[ScenarioNet], training: bool) -> None:
    options = {"stop_foreign": True} if cls is HiNet else {}
    net = build(cls, **options).train(training)
    net(random_batch([1] * 6)).logit_BT.square().sum().backward()
    assert not any(grad.any() for scenario in (0, 2) for grad in scenario_gradients(net, scenario))
    own = scenario_gradients(net, 1)
    assert own
    assert all(grad.any() for grad in own)


@each
@settings(max_examples=15, deadline=None)
@given(scenarios=st.lists(st.integers(0, 2), min_size=2, max_size=6))
def test_training_with_any_number_of_samples_per_scenario(cls: type[ScenarioNet], scenarios: list[int]) -> None:
    net = build(cls).train()
    net(random_batch(scenarios)).logit_BT.square().sum().backward()
    gradients = {name: p.grad for name, p in net.named_parameters()}
    unused = {name for name, grad in gradients.items() if grad is None}
    assert all("gates.2." in name for name in unused)  # HiNet does not use its shared gate
    assert all(grad.isfinite().all() for grad in gradients.values() if grad is not None)
    assert all(buffer.isfinite().all() for buffer in net.buffers())


@each
def test_one_scenario(cls: type[ScenarioNet]) -> None:
    batch = random_batch(None)
    logits = [build(cls, scenarios=count).eval()(batch).logit_BT for count in (0, 1)]
    assert torch.equal(*logits)
    assert logits[0].std(dim=0).min() > 0
    batch.scenario_B = torch.zeros(12, dtype=torch.int32)
    assert torch.equal(build(cls, scenarios=1).eval()(batch).logit_BT, logits[0])
    build(cls, scenarios=0).train()(batch).logit_BT.sum().backward()


@each
def test_fields_without_scenarios_are_one_scenario(cls: type[ScenarioNet]) -> None:
    net = cls(FIELDS, ["click"], embedding_dim=3, **SETTINGS[cls])
    assert net.scenarios == ("all",)
    assert net(random_batch(None, numericals=0)).logit_BT.shape == (12, 1)


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
        net, batch = build(cls, padding=padding), random_batch(MIXED)
        batch.ids_BF[:] = 0
        net(batch).logit_BT.square().sum().backward()
        assert [bool(w.grad[0].any()) for w in net.embedding_parameters()] == [not padding] * 3


@each
def test_layer_settings_are_applied(cls: type[ScenarioNet]) -> None:
    net, batch = build(cls, net_dropout=0.5, hidden_activations="tanh").train(), random_batch(MIXED)
    assert not torch.equal(net(batch).logit_BT, net(batch).logit_BT)
    assert any(isinstance(module, torch.nn.Tanh) for module in net.modules())


@each
def test_no_tasks(cls: type[ScenarioNet]) -> None:
    with pytest.raises(StemlabError, match=f"{cls.__name__}.*one task"):
        build(cls, tasks=0)

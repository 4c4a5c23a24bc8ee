"""Properties of STEM-Net (docs/methods/stem.md#gradient-isolation) and its switches."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from stemlab.data.batch import ImpressionBatch
from stemlab.models.multitask import STEM, gate_shares
from tests.models.nets import FIELDS, build

SWITCHES = [
    {"gate": gate, "gate_input": gate_input, "tables": tables}
    for gate in ("aftb", "all_backward", "cgc", "stop_shared_too")
    for gate_input in ("sum", "task", "shared")
    for tables in ("shared+specific", "specific_only", "shared_only")
]


def task_loss(net: STEM, batch: ImpressionBatch, task: int) -> Tensor:
    logits, _ = net.score(net.embedding(batch.ids_BF))
    return logits[task].square().sum()


def table_gradients(net: STEM, batch: ImpressionBatch, task: int) -> dict[str, float]:
    """Return role -> largest absolute gradient of a task's loss in the tables of the role."""
    gradients = torch.autograd.grad(task_loss(net, batch, task), net.embedding_parameters())
    roles = net.embedding.blocks
    chunks = [gradient.split(net.embedding.embedding_dim, dim=1) for gradient in gradients]
    return {role: max(float(chunk[i].abs().max()) for chunk in chunks) for i, role in enumerate(roles)}


def trains(net: STEM, batch: ImpressionBatch, task: int) -> list[bool]:
    """Return which experts of the first layer a task's loss trains."""
    weights = [expert[0].weight for expert in net.mixture.layers[0].experts]
    gradients = torch.autograd.grad(task_loss(net, batch, task), weights, allow_unused=True)
    return [gradient is not None and bool(gradient.any()) for gradient in gradients]


@pytest.mark.parametrize("tasks", [2, 3])
@pytest.mark.parametrize("gate_input", ["sum", "task", "shared"])
@pytest.mark.parametrize("tables", ["shared+specific", "specific_only"])
def test_one_layer_isolates_task_tables(batch: ImpressionBatch, tasks: int, gate_input: str, tables: str) -> None:
    net = build("STEM", tasks, gate_input=gate_input, tables=tables)
    for task, name in enumerate(net.tasks):
        found = table_gradients(net, batch, task)
        for role, largest in found.items():
            if role in (f"task:{name}", "shared"):
                assert largest > 0
            else:
                assert largest == 0.0


def test_two_layers_do_not_isolate(batch: ImpressionBatch) -> None:
    found = table_gradients(build("STEM", num_layers=2), batch, 0)
    assert min(found.values()) > 0


def test_without_stop_gradient_every_table_has_a_gradient(batch: ImpressionBatch) -> None:
    assert min(table_gradients(build("STEM", gate="all_backward"), batch, 0).values()) > 0


@pytest.mark.parametrize(
    ("gate", "of_task_0"),
    [
        ("aftb", [True, True, False, False, True, True]),
        ("all_backward", [True] * 6),
        ("cgc", [True, True, False, False, True, True]),
        ("stop_shared_too", [True, True, False, False, False, False]),
    ],
)
def test_which_experts_a_task_trains(batch: ImpressionBatch, gate: str, of_task_0: list[bool]) -> None:
    assert trains(build("STEM", gate=gate), batch, 0) == of_task_0


def test_gate_weights_have_gradients_of_stopped_experts(batch: ImpressionBatch) -> None:
    net = build("STEM")
    output_layer = net.mixture.layers[0].gates[0][-1]
    (gradient,) = torch.autograd.grad(task_loss(net, batch, 0), [output_layer.weight])
    assert gradient.abs().amax(dim=1).min() > 0  # every row, also those of the other task's experts (2 and 3)


def test_shared_gate_of_the_last_layer_has_no_gradient(batch: ImpressionBatch) -> None:
    net = build("STEM", num_layers=2)
    net(batch).logit_BT.sum().backward()
    used = [[gate[0].weight.grad is not None for gate in layer.gates] for layer in net.mixture.layers]
    assert used == [[True, True, True], [True, True, False]]


@pytest.mark.parametrize("layers", [1, 2])
@pytest.mark.parametrize("gate", ["all_backward", "stop_shared_too"])
def test_stop_gradient_changes_no_value(batch: ImpressionBatch, layers: int, gate: str) -> None:
    aftb, other = build("STEM", num_layers=layers), build("STEM", num_layers=layers, gate=gate)
    assert torch.equal(aftb(batch).logit_BT, other(batch).logit_BT)


@pytest.mark.parametrize("switches", SWITCHES, ids=lambda s: "-".join(s.values()))
def test_every_switch_setting_trains(batch: ImpressionBatch, switches: dict[str, Any]) -> None:
    net = build("STEM", num_layers=2, **switches)
    net(batch).logit_BT.square().sum().backward()
    widths = {"shared+specific": 3, "specific_only": 2, "shared_only": 1}
    assert [weight.shape for weight in net.embedding_parameters()] == [
        (rows, 3 * widths[switches["tables"]]) for rows in FIELDS.values()
    ]
    assert all(bool(weight.grad.any()) for weight in net.embedding_parameters())


def test_gate_inputs(batch: ImpressionBatch) -> None:
    for gate_input in ("sum", "task", "shared"):
        net = build("STEM", gate_input=gate_input)
        first, _, shared = net.embedding(batch.ids_BF)
        read = {"sum": first + shared, "task": first, "shared": shared}[gate_input]
        expected = net.mixture.layers[0].gates[0](read).softmax(dim=1)
        assert torch.equal(net(batch).gates[0][0], expected)


def test_shared_path_without_a_shared_table_is_the_mean_of_the_task_inputs(batch: ImpressionBatch) -> None:
    net = build("STEM", tables="specific_only")
    inputs = net.embedding(batch.ids_BF)
    *tasks, shared = net.paths(inputs)
    torch.testing.assert_close(shared, (inputs[0] + inputs[1]) / 2)
    assert not shared.requires_grad
    assert all(path.requires_grad for path in tasks)
    assert build("STEM", tables="specific_only", gate="all_backward").paths(inputs)[-1].requires_grad


def test_gate_shares(batch: ImpressionBatch) -> None:
    net = build("STEM")
    output = net(batch)
    (layer,) = gate_shares(net, output)
    assert list(layer) == ["finish", "like"]
    for task, weight_BE in zip(layer, output.gates[0], strict=True):
        mean = weight_BE.mean(dim=0)
        expected = {"task:finish": mean[:2].sum(), "task:like": mean[2:4].sum(), "shared": mean[4:].sum()}
        assert layer[task] == pytest.approx({role: share.item() for role, share in expected.items()}, abs=1e-6)


def test_gate_shares_of_other_networks(batch: ImpressionBatch) -> None:
    omoe, ple, bottom = build("OMoE"), build("PLE", num_layers=2), build("SharedBottom")
    assert [list(layer) for layer in gate_shares(omoe, omoe(batch))] == [["all"]]
    shares = gate_shares(ple, ple(batch))
    assert [list(layer) for layer in shares] == [["finish", "like", "shared"], ["finish", "like"]]
    assert shares[0]["finish"]["task:like"] == 0
    assert shares[0]["shared"] == pytest.approx({"task:finish": 0, "task:like": 0, "shared": 1})
    assert gate_shares(bottom, bottom(batch)) == []

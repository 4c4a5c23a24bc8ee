"""Gate shares of MMFI: known values, and a loop over samples, slots and tasks."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
import torch
from torch import Tensor

from stemlab.data.batch import ImpressionBatch
from stemlab.models.multiscenario.mmfi import MMFI
from stemlab.models.multitask.diagnostics import diagnose_batch
from stemlab.nn.loss import task_losses
from tests.models.mmfi_nets import build, random_batch
from tests.models.scenario_nets import MIXED, take_samples


def slots_of(net: MMFI, batch: ImpressionBatch, row: int) -> tuple[list[Tensor], list[Tensor]]:
    """Return the slot vectors of a sample: of its pairs, and of its fields."""
    D, field_FX = net.dim, net.inputs(batch)[0][row]
    pairs = itertools.combinations(range(len(field_FX)), 2)
    return (
        [net.pair_weight_P[p] * field_FX[i, :D] * field_FX[j, :D] for p, (i, j) in enumerate(pairs)],
        [vector[D:] for vector in field_FX],
    )


@torch.no_grad()
def loop_shares(net: MMFI, batch: ImpressionBatch) -> list[dict[str, dict[str, float]]]:
    N = net.pair_attention.shape.shared
    layers = []
    for layer, gates in enumerate((net.gates, net.field_gates or net.gates)):
        by_task = {}
        for t, task in enumerate(net.tasks):
            weights = []
            for row, s in enumerate(batch.scenario_B.tolist()):
                indicator = net.cell_weight_ST[s, t] * net.scenario_vector_SI[s] * net.task_vector_TI[t]
                for slot in slots_of(net, batch, row)[layer]:
                    score = gates[s].weight_TGX[t] @ torch.cat([indicator, slot]) + gates[s].bias_TG[t]
                    weights.append(score.exp() / score.exp().sum())
            mean = torch.stack(weights).mean(dim=0)
            own = {f"task:{other}": float(mean[N:].sum()) if other == task else 0.0 for other in net.tasks}
            by_task[task] = {**(own if len(mean) > N else {}), "shared": float(mean[:N].sum())}
        layers.append(by_task)
    return layers


@pytest.mark.parametrize(
    "chosen",
    [
        {},
        {"published": True},
        {"share_gates": True, "sparse": "softmax_t"},
        {"num_specific_experts": 0},
        {"num_shared_experts": 3, "activation": "relu"},
    ],
    ids=str,
)
def test_shares_are_means_over_samples_and_slots(chosen: dict[str, Any]) -> None:
    net, batch = build(3, **chosen).eval(), random_batch(MIXED)
    shares, expected = net.gate_shares(batch), loop_shares(net, batch)
    assert len(shares) == 2
    for layer, loop in zip(shares, expected, strict=True):
        assert list(layer) == ["click", "buy", "like"]
        for task, groups in layer.items():
            assert list(groups) == list(loop[task])
            assert groups == pytest.approx(loop[task], abs=1e-6)
            assert sum(groups.values()) == pytest.approx(1, abs=1e-6)


def test_known_shares() -> None:
    """Four shared and two specific experts; nine samples of scenario 0, three of scenario 1."""
    net = build(2).eval()
    with torch.no_grad():
        for gates in (*net.gates, *net.field_gates):
            gates.weight_TGX.zero_()
            gates.bias_TG.zero_()
        net.gates[0].bias_TG[0] = torch.tensor([1.0, 1, 1, 1, 2, 2]).log()  # specific experts: 4 of 8
        net.gates[1].bias_TG[0] = torch.tensor([1.0, 1, 1, 1, 6, 6]).log()  # specific experts: 12 of 16
    pairs, fields = net.gate_shares(random_batch([0] * 9 + [1] * 3))
    assert pairs["click"] == pytest.approx({"task:click": 0.75 * 0.5 + 0.25 * 0.75, "task:buy": 0, "shared": 0.4375})
    assert pairs["buy"] == pytest.approx({"task:click": 0, "task:buy": 1 / 3, "shared": 2 / 3})
    assert fields["click"] == pytest.approx({"task:click": 1 / 3, "task:buy": 0, "shared": 2 / 3})


def test_diagnostics_report_the_shares_and_change_nothing() -> None:
    net, batch = build(2).train(), random_batch(MIXED)
    before = {name: value.clone() for name, value in net.state_dict().items()}
    inside = diagnose_batch(net, batch, lambda logit_BT: task_losses(logit_BT, torch.ones(len(MIXED), 2)))
    assert inside.gates == net.gate_shares(batch)
    assert inside.by_name()["gate/2/buy/shared"] == inside.gates[1]["buy"]["shared"]
    assert net.training
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())
    assert all(parameter.grad is None for parameter in net.parameters())
    alone = net.gate_shares(take_samples(batch, [1]))  # scenario 2 only: the others have no samples
    assert sum(alone[0]["click"].values()) == pytest.approx(1, abs=1e-6)

"""The forms in static shapes equal the split by scenario: outputs, gradients and running statistics, float64."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from stemlab.data.batch import ImpressionBatch
from stemlab.nn.kernels.dispatch import device_forms
from tests.models import mmfi_nets, scenario_nets
from tests.models.scenario_nets import MIXED

MMFI_SETTINGS: dict[str, dict[str, Any]] = {
    "mmfi": {},
    "published": {"published": True},
    "softmax": {"sparse": "softmax_t", "tau_pair": 0.5, "num_specific_experts": 0},
    "activation": {"activation": "tanh", "share_gates": True, "use_pair_out_weight": False},
    "all rows with activation": {"activation": "tanh", "bn_all_rows": True, "numeric": "per_feature"},
}
KINDS = [*(net.__name__ for net in scenario_nets.NETS), *MMFI_SETTINGS]
BATCHES = {"all scenarios": MIXED, "one sample of es": [0, 2, 0, 1, 2, 0], "no sample of fr": [1, 0, 1, 0]}


def build(kind: str) -> nn.Module:
    if kind in MMFI_SETTINGS:
        return mmfi_nets.build(**MMFI_SETTINGS[kind]).double()
    return scenario_nets.build(next(net for net in scenario_nets.NETS if net.__name__ == kind)).double()


def batch_of(kind: str, scenarios: list[int]) -> ImpressionBatch:
    batch = (mmfi_nets if kind in MMFI_SETTINGS else scenario_nets).random_batch(scenarios)
    assert batch.dense_BN is not None
    batch.dense_BN = batch.dense_BN.double()
    return batch


def results(net: nn.Module, batch: ImpressionBatch) -> dict[str, Tensor]:
    """Return logits, gradients of all parameters and the state after the step."""
    logit_BT = net(batch).logit_BT
    logit_BT.square().sum().backward()
    gradients = {f"gradient of {name}": p.grad for name, p in net.named_parameters() if p.grad is not None}
    return {"logits": logit_BT.detach(), **gradients, **net.state_dict()}


@pytest.mark.parametrize("scenarios", BATCHES.values(), ids=BATCHES)
@pytest.mark.parametrize("training", [True, False], ids=["train", "eval"])
@pytest.mark.parametrize("kind", KINDS)
def test_static_shapes_equal_the_split(kind: str, training: bool, scenarios: list[int]) -> None:
    net, batch = build(kind).train(training), batch_of(kind, scenarios)
    other = copy.deepcopy(net)
    expected = results(net, batch)
    with device_forms():
        found = results(other, batch)
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-9)


def test_absent_scenario_gets_zero_gradients() -> None:
    net = build("STAR").train()
    with device_forms():
        net(batch_of("STAR", [0, 1, 1, 0])).logit_BT.sum().backward()
    weight = net.layers[0].weight_SOI  # type: ignore[union-attr,index]
    assert not weight.grad[2].any()
    assert weight.grad[0].any()

"""Merged mixtures of MMFI's attention against the plain equation: values and gradients."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch

from stemlab.models.multiscenario.mmfi_attention import AttentionShape, SlotAttention, SlotGates
from stemlab.nn.kernels.dispatch import kernel_mode
from tests.models.mmfi_nets import build, random_batch
from tests.models.scenario_nets import MIXED

SHAPE = {"scenarios": 1, "tasks": 2, "width": 3, "indicator": 4, "bottom": 5, "expert": 2, "activation": "none"}


@pytest.mark.parametrize("activation", ["none", "tanh", "relu"])
@pytest.mark.parametrize(("shared", "own"), [(2, 1), (1, 0), (3, 2)])
@pytest.mark.parametrize("samples", [0, 1, 4])
def test_merged_mixtures_are_the_equation(activation: Any, shared: int, own: int, samples: int) -> None:
    torch.manual_seed(0)
    shape = AttentionShape(**{**SHAPE, "shared": shared, "own": own, "activation": activation})
    attention, gates = SlotAttention(6, shape).double(), SlotGates(shape).double()
    slot_RQE = torch.randn(samples, 6, 3, dtype=torch.float64, requires_grad=True)
    indicator_TI = torch.randn(2, 4, dtype=torch.float64, requires_grad=True)
    inputs = [slot_RQE, indicator_TI, *gates.parameters(), *attention.parameters()]
    results = []
    for mixtures in (attention.mixtures, attention.merged_mixtures):
        mixture_TMQR = mixtures(slot_RQE, attention.own[0], gates, indicator_TI)
        assert mixture_TMQR.shape == (2, 2, 6, samples)
        grads = torch.autograd.grad(mixture_TMQR.square().sum(), inputs, allow_unused=True)
        results.append((mixture_TMQR, grads))
    torch.testing.assert_close(*results)


@pytest.mark.parametrize("chosen", [{}, {"published": True}, {"sparse": "softmax_t", "activation": "tanh"}], ids=str)
@pytest.mark.parametrize("train", [False, True], ids=["eval", "train"])
def test_kernels_off_gives_the_same_logits_and_gradients(chosen: dict[str, Any], train: bool) -> None:
    net, batch = build(**chosen).double().train(train), random_batch(MIXED)
    batch.dense_BN = batch.dense_BN.double()
    results = []
    for mode in ("auto", "off"):
        twin = copy.deepcopy(net)
        with kernel_mode(mode):
            logit_BT = twin(batch).logit_BT
            logit_BT.square().sum().backward()
        results.append((logit_BT, [parameter.grad for parameter in twin.parameters()]))
    torch.testing.assert_close(*results)


def test_kernels_off_runs_the_equation(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[str] = []

    def record(name: str) -> None:
        method = getattr(SlotAttention, name)
        monkeypatch.setattr(SlotAttention, name, lambda *args: calls.append(name) or method(*args))

    record("mixtures")
    record("merged_mixtures")
    for mode in ("auto", "off"):
        with kernel_mode(mode):
            build()(random_batch(MIXED))
    assert calls == ["merged_mixtures"] * 6 + ["mixtures"] * 6

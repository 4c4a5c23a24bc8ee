"""Equations of the papers, computed sample by sample in evaluation, and properties of single networks."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import leaky_relu, linear, relu, softmax

from stemlab.data.spec import ImpressionSizes
from stemlab.errors import StemlabError
from stemlab.models.multiscenario.adasparse import AdaSparse
from stemlab.models.multiscenario.base import ScenarioNet
from stemlab.models.multiscenario.hinet import HiNet
from stemlab.models.multiscenario.m2m import M2M
from stemlab.models.multiscenario.pepnet import PEPNet
from stemlab.models.multiscenario.sar_net import SARNet
from stemlab.models.multiscenario.star import STAR
from stemlab.nn.norm import SubsetBatchNorm
from tests.models.scenario_nets import MIXED, build, random_batch, take_samples


def star(net: STAR, e: Tensor, s: int) -> Tensor:
    norm = net.norm.norms[s]
    z = (e - norm.running_mean) / (norm.running_var + 1e-5).sqrt()
    h = net.norm.weight * norm.weight * z + net.norm.bias + norm.bias
    for number, layer in enumerate(net.layers):
        h = relu(h) if number else h
        h = linear(h, layer.weight_SOI[s] * layer.shared.weight, layer.bias_SO[s] + layer.shared.bias)
    return h + net.aux(torch.cat([net.vector_SC[s], e]))


def normalised(norm: SubsetBatchNorm | nn.BatchNorm1d, x: Tensor) -> Tensor:
    return (x - norm.running_mean) / (norm.running_var + 1e-5).sqrt() * norm.weight + norm.bias


def sar_net(net: SARNet, e: Tensor, s: int) -> Tensor:
    own = e * net.scale_SI[s] + net.shift_SI[s]
    experts = [*net.shared.experts, *net.specific[s].experts]
    outputs = torch.stack([line(normalised(norm, own)) for norm, line in experts])
    mixed = softmax(net.gate(own), 0) @ outputs
    return torch.cat([tower(mixed) for tower in net.towers])


def adasparse(net: AdaSparse, e: Tensor, s: int) -> Tensor:
    h = e
    for pruner, layer in zip(net.pruners, net.layers, strict=True):
        v = net.beta * torch.sigmoid(net.alpha * pruner(torch.cat([net.vector_SC[s], h])))
        h = layer(torch.where(v >= net.eps, v, 0.0) * h)
    return torch.cat([tower(h) for tower in net.towers])


def unit(gate: nn.Sequential, x: Tensor) -> Tensor:
    return 2 * torch.sigmoid(gate[2](relu(gate[0](x))))


def pepnet(net: PEPNet, e: Tensor, s: int) -> Tensor:
    gated = e * unit(net.scenario_gate, torch.cat([net.vector_SC[s], e]))
    prior = torch.cat([e[0:3], e[3:6], gated])  # uid, item
    logits = []
    for tower in net.towers:
        h = gated
        for number, (gate, layer) in enumerate(zip(tower.gates, tower.layers, strict=True)):
            h = h * unit(gate, prior)
            h = layer(h) if number == 2 else relu(layer[0](h))
        logits.append(h)
    return torch.cat(logits)


def m2m(net: M2M, e: Tensor, s: int) -> Tensor:
    experts, vector = [expert(net.backbone(e)) for expert in net.experts], net.scenario_layers(net.vector_SC[s])

    def meta(part: nn.Module, x: Tensor) -> Tensor:
        return x @ part.weight(vector).view(len(x), len(x)) + part.bias(vector)

    logits = []
    for head in net.heads:
        hidden = [leaky_relu(meta(head.attention, torch.cat([x, head.vector_1H[0]]))) for x in experts]
        weights = softmax(torch.cat([head.direction(h) for h in hidden]), 0)
        state = sum(w * x for w, x in zip(weights, experts, strict=True))
        for layer in head.tower:
            state = leaky_relu(meta(layer, state) + state)
        logits.append(head.head(state))
    return torch.cat(logits)


def hinet(net: HiNet, e: Tensor, s: int) -> Tensor:
    def extract(part: nn.Module) -> Tensor:
        return softmax(part.gate(e), 0) @ torch.stack([expert(e) for expert in part.experts])

    others = [j for j in range(3) if j != s]
    weights = softmax(net.relation(net.vector_SC[s])[others], 0)
    others_state = sum(w * extract(net.specific[j]) for w, j in zip(weights, others, strict=True))
    c = torch.cat([extract(net.shared), extract(net.specific[s]), others_state])
    (layer,) = net.mixture.layers
    logits = []
    for task, tower in enumerate(net.towers):  # an expert of each task, then two shared ones
        seen = torch.stack([layer.experts[k](c) for k in (task, 2, 3)])
        logits.append(tower(softmax(layer.gates[task](c), 0) @ seen))
    return torch.cat(logits)


EQUATIONS = {STAR: star, SARNet: sar_net, AdaSparse: adasparse, PEPNet: pepnet, M2M: m2m, HiNet: hinet}


@pytest.mark.parametrize("cls", EQUATIONS, ids=lambda cls: cls.__name__)
def test_equations(cls: type[ScenarioNet]) -> None:
    net, batch = build(cls).eval(), random_batch(MIXED)
    input_BI, scenario_B = net.inputs(batch)
    samples = zip(input_BI, scenario_B.tolist(), strict=True)
    torch.testing.assert_close(net(batch).logit_BT, torch.stack([EQUATIONS[cls](net, e, s) for e, s in samples]))


# ------------------------------------------------------------------------------------------------------------- STAR


def test_star_normalises_a_scenario_by_its_own_samples() -> None:
    net, batch = build(STAR).train(), random_batch(MIXED)
    before = [norm.running_mean.clone() for norm in net.norm.norms]
    input_BI, scenario_B = net.inputs(batch)
    net(batch)
    for s, norm in enumerate(net.norm.norms):
        torch.testing.assert_close(norm.running_mean, 0.9 * before[s] + 0.1 * input_BI[scenario_B == s].mean(dim=0))


def test_star_starts_as_the_shared_network() -> None:
    sizes = ImpressionSizes({"uid": 5}, scenarios=("a", "b"))
    net = STAR(sizes, ["click"], embedding_dim=3, hidden_units=[4], scenario_dim=2, aux_hidden_units=[])
    for layer in net.layers:
        assert (layer.weight_SOI == 1).all()
        assert not layer.bias_SO.any()
    assert (net.vector_SC[0] - net.vector_SC[1]).abs().max() > 0.1


# -------------------------------------------------------------------------------------------------------- AdaSparse


def test_adasparse_zeroes_below_eps_and_alpha_grows_in_training() -> None:
    net, batch = build(AdaSparse, eps=1.0, alpha_growth=0.5), random_batch(MIXED)
    for expected in (1.0, 1.5, 2.0):
        assert float(net.alpha) == expected
        net.train()(batch)
    net.eval()(batch)
    assert float(net.alpha) == 2.5
    assert "alpha" in net.state_dict()
    _, shares = net.prune(*net.inputs(batch))
    assert all(0 < share.item() < 1 for share in shares)
    with torch.no_grad():
        for pruner in net.pruners:
            pruner.weight.zero_()
            pruner.bias.fill_(-1.0)
    assert [share.item() for share in net.prune(*net.inputs(batch))[1]] == [1.0, 1.0]


def test_adasparse_penalty() -> None:
    settings = {"eps": 1.0, "sparsity_weight": 2.0, "sparsity_min": 0.1, "sparsity_max": 0.3}
    net, batch = build(AdaSparse, **settings).train(), random_batch(MIXED)
    pruned = torch.stack([share.detach() for share in net.prune(*net.inputs(batch))[1]])
    penalty = build(AdaSparse, **settings).train()(batch).penalty
    far = torch.where((pruned < 0.1) | (pruned > 0.3), pruned - 0.2, 0.0)
    assert far.any()
    torch.testing.assert_close(penalty, 2 * (far**2).mean())
    grads = torch.autograd.grad(net(batch).penalty, [pruner.bias for pruner in net.pruners])
    # too much is pruned: larger biases prune less
    assert all(
        (grad <= 0).all() and grad.any() for grad, share in zip(grads[1:], pruned[1:], strict=True) if share > 0.3
    )
    assert net.eval()(batch).penalty is None
    assert build(AdaSparse).train()(batch).penalty is None


def test_adasparse_raises_for_an_empty_range() -> None:
    with pytest.raises(StemlabError, match=r"sparsity_min=0.5.*sparsity_max=0.25"):
        build(AdaSparse, sparsity_min=0.5)


# ----------------------------------------------------------------------------------------------------------- PEPNet


@pytest.mark.parametrize(("personal", "trained"), [([], None), (["item"], [False, True, False])])
def test_pepnet_gates_train_only_personal_fields(personal: list[str], trained: list[bool] | None) -> None:
    net, seen = build(PEPNet, personal_fields=personal), []
    net.towers[1].gates[0].register_forward_pre_hook(lambda _, args: seen.append(args[0]))
    net(random_batch(MIXED))
    (prior,) = seen
    assert prior.requires_grad == (trained is not None)
    if trained is not None:
        found = torch.autograd.grad(prior.sum(), net.embedding_parameters(), allow_unused=True)
        assert [grad is not None and bool(grad.any()) for grad in found] == trained


def test_pepnet_raises_for_an_unknown_field() -> None:
    with pytest.raises(StemlabError, match=r"personal_fields.*'itme'.*uid, item, city.*'item'"):
        build(PEPNet, personal_fields=["itme"])


# ------------------------------------------------------------------------------------------------------------ HiNet


def test_hinet_weights_only_other_scenarios() -> None:
    weights = build(HiNet).foreign_weights()
    assert not weights.diagonal().any()
    torch.testing.assert_close(weights.sum(dim=1), torch.ones(3))
    assert build(HiNet, scenarios=1).foreign_weights().tolist() == [[0.0]]


@pytest.mark.parametrize("stop", [True, False])
def test_hinet_trains_other_extractors_unless_stopped(stop: bool) -> None:
    net, batch = build(HiNet, stop_foreign=stop), random_batch([1] * 6)
    net(batch).logit_BT.sum().backward()
    assert all(bool(p.grad.any()) != stop for p in net.specific[0].parameters())
    # the logits are the same
    torch.testing.assert_close(net(batch).logit_BT, build(HiNet)(take_samples(batch, list(range(6)))).logit_BT)

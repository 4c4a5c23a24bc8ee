"""AdamW, Adagrad and SGD equal plain loops of PyTorch with the penalty in the autograd graph; rates of groups."""

import copy

import pytest
import torch
from torch import nn

from stemlab.errors import StemlabError
from stemlab.optim import (
    OptimConfig,
    Penalty,
    RankingOptimConfig,
    RateGroups,
    build_optimizer,
    build_ranking_optimizer,
    clip_gradients,
    penalty_value,
)
from stemlab.optim.groups import named_rates, parameter_kinds
from stemlab.optim.penalised import PenalisedOptimizer
from tests.optim.test_adam import Case, assert_same, loss_of, make

PLAIN = {
    "adam": lambda groups: torch.optim.Adam(groups, lr=0.01),
    "adamw": lambda groups: torch.optim.AdamW(groups, lr=0.01, weight_decay=0.3),
    "adagrad": lambda groups: torch.optim.Adagrad(groups, lr=0.01, eps=1e-8),
    "sgd": lambda groups: torch.optim.SGD(groups, lr=0.01, momentum=0.9),
}
SETTINGS = {"adamw": {"weight_decay": 0.3}, "sgd": {"momentum": 0.9}}
PENALTY = (Penalty(l1=0.05, l2=0.2), Penalty(l2=0.01))


def double_case() -> Case:
    case = make(rows=8, seed=3)
    return Case(case.net.double(), case.ids, case.y.double())


def optim_config(name: str, **settings: object) -> OptimConfig:
    return OptimConfig(name=name, lr=0.01, **SETTINGS.get(name, {}), **settings)  # type: ignore[arg-type]


@pytest.mark.parametrize("on_device", [False, True])
@pytest.mark.parametrize("clip", [None, 0.05])
@pytest.mark.parametrize("name", PLAIN)
def test_equals_a_plain_loop(name, clip, on_device, monkeypatch):
    monkeypatch.setattr(PenalisedOptimizer, "decides_on_device", on_device)
    case = double_case()
    plain = copy.deepcopy(case.net)
    theirs = PLAIN[name](list(plain.parameters()))
    ours = build_optimizer(case.net, optim_config(name), *PENALTY)
    for _ in range(5):
        theirs.zero_grad()
        (loss_of(plain, case) + penalty_value(plain, *PENALTY)).backward()
        ours.zero_grad()
        loss_of(case.net, case).backward()
        if clip is not None:
            nn.utils.clip_grad_norm_(plain.parameters(), clip)
            clip_gradients(ours, clip)
        theirs.step()
        ours.step()
    assert_same(case.net, plain, atol=1e-6 if on_device else 1e-9)


def test_the_decay_of_adamw_can_exclude_biases():
    case = double_case()
    optimizer = build_optimizer(case.net, optim_config("adamw", exclude_bias_bn=True), Penalty(), Penalty())
    decays = {group["name"]: group["decay"] for group in optimizer.param_groups}
    assert decays == {"embedding": 0.3, "net": 0.3, "not penalised": 0.0}


@pytest.mark.parametrize(
    ("name", "plain"),
    [
        ("adamw", lambda groups: torch.optim.AdamW(groups, lr=0.01)),
        ("sgd", lambda groups: torch.optim.SGD(groups, lr=0.01, momentum=0.5)),
    ],
)
def test_optimisers_of_ranking_models_equal_a_plain_loop(name, plain):
    case = double_case()
    reference = copy.deepcopy(case.net)
    settings = {"momentum": 0.5} if name == "sgd" else {}
    ours = build_ranking_optimizer(case.net, RankingOptimConfig(name=name, lr=0.01, **settings))
    decay = 0.01 if name == "adamw" else 0.0
    named = list(reference.named_parameters())
    theirs = plain(
        [
            {"params": [p for key, p in named if "bias" not in key], "weight_decay": decay},
            {"params": [p for key, p in named if "bias" in key], "weight_decay": 0.0},
        ]
    )
    for _ in range(4):
        for net, optimizer in ((case.net, ours), (reference, theirs)):
            optimizer.zero_grad()
            loss_of(net, case).backward()
            optimizer.step()
    assert_same(case.net, reference, atol=1e-9)


class Gated(nn.Module):
    """A table, a gate and a head."""

    def __init__(self) -> None:
        super().__init__()
        self.table, self.expert_gate, self.head = nn.Embedding(5, 3), nn.Linear(3, 3), nn.Linear(3, 1)

    def forward(self, ids):
        rows = self.table(ids)
        return self.head(rows * self.expert_gate(rows).sigmoid()).square().mean()


@pytest.mark.parametrize("family", ["multitask", "sequential"])
def test_groups_have_rates_of_their_own(family):
    torch.manual_seed(0)
    net, ids = Gated().double(), torch.tensor([1, 2, 2, 4])
    plain, rates = copy.deepcopy(net), RateGroups(tables=0.1, gates=0.02)
    if family == "multitask":
        ours = build_optimizer(net, OptimConfig(lr=0.01, lr_groups=rates), Penalty(), Penalty())
    else:
        ours = build_ranking_optimizer(net, RankingOptimConfig(lr=0.01, lr_groups=rates))
    theirs = torch.optim.Adam(
        [
            {"params": plain.table.parameters(), "lr": 0.1},
            {"params": plain.expert_gate.parameters(), "lr": 0.02},
            {"params": plain.head.parameters(), "lr": 0.01},
        ]
    )
    for _ in range(3):
        for each, optimizer in ((net, ours), (plain, theirs)):
            optimizer.zero_grad()
            each(ids).backward()
            optimizer.step()
    assert_same(net, plain, atol=1e-10)
    assert named_rates(ours) == {"train/lr": 0.01, "train/lr/tables": 0.1, "train/lr/gates": 0.02}
    assert sorted(parameter_kinds(net).values()) == ["dense", "dense", "gates", "gates", "tables"]


def test_a_rate_of_a_missing_group_is_refused():
    with pytest.raises(StemlabError, match="gates"):
        build_optimizer(make().net, OptimConfig(lr_groups=RateGroups(gates=0.1)), Penalty(), Penalty())

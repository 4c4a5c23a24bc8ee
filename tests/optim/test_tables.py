"""Tables that are trained by rows: equal to written-out references and to torch's SparseAdam."""

from __future__ import annotations

import copy
import math
from typing import Any

import pytest
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from stemlab.errors import StemlabError
from stemlab.nn.row_embedding import RowEmbedding
from stemlab.optim import (
    OptimConfig,
    PenalisedAdam,
    Penalty,
    RankingOptimConfig,
    RowAdam,
    build_optimizer,
    build_ranking_optimizer,
    clip_gradients,
)
from tests.accelerator import host_operations
from tests.optim.test_adam import Case, assert_same, loss_of, make

BY_ROWS = ("sparse_adam", "rowwise_adagrad")


def by_rows(net: nn.Module) -> nn.Module:
    """Let both tables of the toy network have sparse gradients."""
    for table in (net.left, net.right):
        table.__class__ = RowEmbedding
    return net


def batches(case: Case, steps: int) -> list[Case]:
    """Return batches that look up different rows, some of them several times, and padding."""
    generator = torch.Generator().manual_seed(7)
    rows = len(case.net.left.weight)
    shape = (steps, *case.ids.shape)
    ids = torch.randint(0, rows, shape, generator=generator) * torch.randint(0, 2, shape, generator=generator)
    return [Case(case.net, own, case.y) for own in ids]


def train(
    net: nn.Module, optimizer: torch.optim.Optimizer, given: list[Case], clip: float | None = None
) -> list[float]:
    norms = []
    for batch in given:
        optimizer.zero_grad()
        loss_of(net, batch).backward()
        if clip is not None:
            norms.append(clip_gradients(optimizer, clip).item())
        optimizer.step()
    return norms


class Reference:
    """Rules of tables written out row by row; all other parameters are trained by torch's Adam."""

    def __init__(self, net: nn.Module, rule: str, lr: float, penalty: Penalty, corrected: bool) -> None:
        self.net, self.rule, self.lr, self.penalty, self.corrected = net, rule, lr, penalty, corrected
        self.tables = (net.left.weight, net.right.weight)
        self.adam = torch.optim.Adam([*net.head.parameters(), *net.idle.parameters()], lr=lr, foreach=False)
        self.first = [torch.zeros_like(table) for table in self.tables]
        self.second = [torch.zeros_like(table) for table in self.tables]
        self.sums = [[0.0] * len(table) for table in self.tables]
        self.steps = 0

    def step(self, batch: Case, clip: float | None) -> float:
        """Train on a batch with a dense gradient and the penalty of its rows; return the norm."""
        self.net.zero_grad()
        looked_up = [batch.ids[:, 0].unique(), batch.ids[:, 1].unique()]
        looked_up[0] = looked_up[0][looked_up[0] > 0]  # padding
        rows = [table[own] for table, own in zip(self.tables, looked_up, strict=True)]
        (loss_of(self.net, batch) + sum(self.penalty.of(row) for row in rows)).backward()
        norm = nn.utils.clip_grad_norm_(self.net.parameters(), math.inf if clip is None else clip)
        self.adam.step()
        self.steps += 1
        with torch.no_grad():
            for t, own in enumerate(looked_up):
                for row in own.tolist():
                    self.step_row(t, row)
        return norm.item()

    def step_row(self, t: int, row: int) -> None:
        weight, gradient = self.tables[t][row], self.tables[t].grad[row]
        if self.rule == "rowwise_adagrad":
            self.sums[t][row] += gradient.square().mean().item()
            weight -= self.lr / (math.sqrt(self.sums[t][row]) + 1e-8) * gradient
            return
        first, second = self.first[t][row], self.second[t][row]
        first.mul_(0.9).add_(0.1 * gradient)
        second.mul_(0.999).add_(0.001 * gradient.square())
        one, two = (1 - 0.9**self.steps, 1 - 0.999**self.steps) if self.corrected else (1.0, 1.0)
        weight -= self.lr * (first / one) / ((second / two).sqrt() + 1e-8)


@pytest.mark.parametrize("on_device", [False, True])
@pytest.mark.parametrize("clip", [None, 0.05])
@pytest.mark.parametrize("penalty", [Penalty(), Penalty(l1=0.05, l2=0.2)], ids=str)
@pytest.mark.parametrize(
    ("rule", "corrected"), [("sparse_adam", True), ("sparse_adam", False), ("rowwise_adagrad", True)]
)
def test_equals_the_written_out_rule(rule, corrected, penalty, clip, on_device, monkeypatch):
    monkeypatch.setattr(PenalisedAdam, "decides_on_device", on_device)
    case = make(rows=9, batch=8, seed=3)
    case = Case(case.net.double(), case.ids, case.y.double())
    given = batches(case, 6)
    plain = copy.deepcopy(case.net)
    reference = Reference(plain, rule, 0.01, penalty, corrected)
    optim = OptimConfig(lr=0.01, tables=rule, tables_bias_correction=corrected)
    adam = build_optimizer(by_rows(case.net), optim, penalty, Penalty(), mode="batch")
    norms = train(case.net, adam, given, clip)
    expected = [reference.step(batch, clip) for batch in given]
    if clip is not None:
        assert norms == pytest.approx(expected, rel=1e-6)
    assert_same(case.net, plain, atol=1e-6 if on_device and clip else 1e-7)  # a divisor of the device form is float32


@pytest.mark.parametrize("on_device", [False, True])
def test_sparse_adam_equals_that_of_torch(on_device, monkeypatch):
    monkeypatch.setattr(PenalisedAdam, "decides_on_device", on_device)
    case = make(rows=40, width=8, batch=64, scale=0.5)
    case = Case(case.net.double(), case.ids, case.y.double())
    given, plain = batches(case, 10), copy.deepcopy(case.net)
    for table in (plain.left, plain.right):
        table.sparse = True
    # SparseAdam adds eps before the bias correction, Adam after it: so small that the difference does not matter
    theirs = torch.optim.SparseAdam([plain.left.weight, plain.right.weight], lr=0.01, eps=1e-14)
    others = torch.optim.Adam([*plain.head.parameters(), *plain.idle.parameters()], lr=1e-3)
    for batch in given:
        plain.zero_grad()
        loss_of(plain, batch).backward()
        theirs.step()
        others.step()
    optim = OptimConfig(tables="sparse_adam", tables_lr=0.01, eps=1e-14)
    train(case.net, build_optimizer(by_rows(case.net), optim, Penalty(), Penalty()), given)
    assert_same(case.net, plain, atol=1e-7)


def test_the_first_step_equals_that_of_dense_adam_on_the_rows_of_the_batch():
    case = make(rows=9, seed=3)
    dense, start = copy.deepcopy(case.net), copy.deepcopy(case.net)
    train(dense, build_optimizer(dense, OptimConfig(), Penalty(), Penalty()), [case])
    adam = build_optimizer(by_rows(case.net), OptimConfig(tables="sparse_adam"), Penalty(), Penalty())
    train(case.net, adam, [case])
    assert_same(case.net, dense, atol=1e-7)
    left = torch.ones(9, dtype=torch.bool)
    left[case.ids[:, 1]] = False
    assert torch.equal(case.net.right.weight[:9][left], start.right.weight[:9][left])


@pytest.mark.parametrize("rule", BY_ROWS)
@pytest.mark.parametrize("on_device", [False, True])
def test_gradients_of_several_batches_accumulate(rule, on_device, monkeypatch):
    monkeypatch.setattr(PenalisedAdam, "decides_on_device", on_device)
    trained = []
    for parts in (1, 2):
        case = make(rows=9, batch=8, seed=3)
        optim = OptimConfig(lr=0.01, tables=rule)
        adam = build_optimizer(by_rows(case.net), optim, Penalty(l2=0.1), Penalty(), mode="batch")
        for batch in batches(case, 3):
            adam.zero_grad()
            for ids, y in zip(batch.ids.chunk(parts), batch.y.chunk(parts), strict=True):
                (loss_of(case.net, Case(case.net, ids, y)) / parts).backward()
            clip_gradients(adam, 0.05)
            adam.step()
        trained.append(case.net)
    assert_same(trained[1], trained[0], atol=1e-6)


@pytest.mark.parametrize("rule", BY_ROWS)
def test_the_state_can_be_saved_and_restored(rule):
    case, optim = make(rows=9, seed=3), OptimConfig(lr=0.01, tables=rule)
    given = batches(case, 4)
    whole = by_rows(copy.deepcopy(case.net))
    train(whole, build_optimizer(whole, optim, Penalty(l2=0.1), Penalty(), mode="batch"), given, clip=0.1)
    state = None
    for part in (given[:2], given[2:]):
        adam = build_optimizer(by_rows(case.net), optim, Penalty(l2=0.1), Penalty(), mode="batch")
        if state is not None:
            adam.load_state_dict(copy.deepcopy(state))
        train(case.net, adam, part, clip=0.1)
        state = adam.state_dict()
    assert_same(case.net, whole, atol=0)


@pytest.mark.parametrize("rule", BY_ROWS)
def test_a_nan_reaches_the_weights(rule):
    case = make()
    adam = build_optimizer(by_rows(case.net), OptimConfig(tables=rule), Penalty(), Penalty())
    (loss_of(case.net, case) * float("nan")).backward()
    assert clip_gradients(adam, 10.0).isnan()
    adam.step()
    assert case.net.right.weight[case.ids[0, 1]].isnan().all()


class LargestTensor(TorchDispatchMode):
    """Note the number of values of the largest tensor that an operation creates."""

    def __init__(self) -> None:
        super().__init__()
        self.values = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        given = {id(leaf) for leaf in tree_leaves((args, kwargs))}
        dense = [leaf for leaf in tree_leaves(result) if isinstance(leaf, torch.Tensor) and not leaf.is_sparse]
        self.values = max([self.values, *(leaf.numel() for leaf in dense if id(leaf) not in given)])
        return result


@pytest.mark.parametrize("on_device", [False, True])
@pytest.mark.parametrize("rule", BY_ROWS)
def test_no_tensor_of_the_size_of_a_table_is_created(rule, on_device, monkeypatch):
    monkeypatch.setattr(PenalisedAdam, "decides_on_device", on_device)
    case = make(rows=500, batch=8)
    adam = build_optimizer(
        by_rows(case.net), OptimConfig(tables=rule), Penalty(l1=1.0, l2=1.0), Penalty(), mode="batch"
    )
    train(case.net, adam, [case], clip=0.1)  # the state of the tables is created once
    with LargestTensor() as largest:
        train(case.net, adam, batches(case, 2), clip=0.1)
    assert 0 < largest.values < 500


@pytest.mark.parametrize("rule", BY_ROWS)
def test_device_form_reads_no_value_on_the_cpu(rule, monkeypatch):
    monkeypatch.setattr(PenalisedAdam, "decides_on_device", True)
    case = make()
    net, ids, y = by_rows(case.net).to("meta"), case.ids.to("meta"), case.y.to("meta")
    adam = build_optimizer(net, OptimConfig(tables=rule), Penalty(l1=0.1, l2=0.5), Penalty(l2=0.1), mode="batch")
    with host_operations() as found:
        loss_of(net, Case(net, ids, y)).backward()
        clip_gradients(adam, 0.01)
        if rule == "rowwise_adagrad":  # PyTorch has no fused Adam for the meta device
            adam._step_tables()
    assert found == []


def test_deterministic_algorithms_stay_on(monkeypatch):
    monkeypatch.setattr(PenalisedAdam, "decides_on_device", True)
    case = make()
    adam = build_optimizer(by_rows(case.net), OptimConfig(tables="sparse_adam"), Penalty(), Penalty())
    torch.use_deterministic_algorithms(True, warn_only=True)
    try:
        train(case.net, adam, [case])
        assert torch.are_deterministic_algorithms_enabled()
        assert torch.is_deterministic_algorithms_warn_only_enabled()
    finally:
        torch.use_deterministic_algorithms(False)


def test_the_optimiser_can_be_copied():
    case = make()
    adam = build_optimizer(
        by_rows(case.net), OptimConfig(tables="sparse_adam"), Penalty(l2=0.1), Penalty(), mode="batch"
    )
    reference = copy.deepcopy(adam)
    assert isinstance(reference, RowAdam)
    reference.step()


def test_the_tables_are_the_last_group_and_have_their_own_learning_rate():
    optim = OptimConfig(lr=0.3, tables="rowwise_adagrad", tables_lr=0.5)
    adam = build_optimizer(by_rows(make().net), optim, Penalty(l2=0.1), Penalty(l1=0.2), mode="batch")
    assert [(g["name"], g["lr"], g["l1"], g["l2"]) for g in adam.param_groups] == [
        ("net", 0.3, 0.2, 0.0),
        ("rows", 0.5, 0.0, 0.1),
    ]


def test_ranking_groups_have_no_l2_on_tables_named_bias():
    net = nn.ModuleDict({"users": RowEmbedding(5, 3), "item_bias": RowEmbedding(5, 1), "out": nn.Linear(3, 2)})
    adam = build_ranking_optimizer(net, RankingOptimConfig(l2=0.1, tables="sparse_adam"))
    assert [(g["name"], g["l2"], g["rows_only"], len(g["params"])) for g in adam.param_groups] == [
        ("decayed", 0.1, False, 1),
        ("biases", 0.0, False, 1),
        ("decayed rows", 0.1, True, 1),
        ("rows", 0.0, True, 1),
    ]


def test_refuses_what_cannot_be_trained_by_rows():
    optim, net = OptimConfig(tables="sparse_adam"), make().net
    with pytest.raises(StemlabError, match="read by id"):
        build_optimizer(net, optim, Penalty(), Penalty())
    with pytest.raises(StemlabError, match="embedding_regularizer_mode"):
        build_optimizer(by_rows(net), optim, Penalty(l2=0.1), Penalty(), mode="dense")
    adam = build_optimizer(net, optim, Penalty(), Penalty())
    net.left.weight.sum().backward()
    with pytest.raises(TypeError, match="dense gradient"):
        adam.step()

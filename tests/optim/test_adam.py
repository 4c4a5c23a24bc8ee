"""The fused optimiser equals torch's Adam with the penalty in the autograd graph."""

import copy
from typing import NamedTuple

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from stemlab.optim import OptimConfig, PenalisedAdam, Penalty, build_optimizer, clip_gradients, penalty_value


class Toy(nn.Module):
    """Two embedding tables, a used and an unused linear layer."""

    def __init__(self, rows: int, width: int) -> None:
        super().__init__()
        self.left = nn.Embedding(rows, width, padding_idx=0)
        self.right = nn.Embedding(rows + 2, width)
        self.head = nn.Linear(2 * width, 1)
        self.idle = nn.Linear(2, 2)

    def forward(self, ids: Tensor) -> Tensor:
        return self.head(torch.cat([self.left(ids[:, 0]), self.right(ids[:, 1])], 1)).squeeze(1)


class Case(NamedTuple):
    net: Toy
    ids: Tensor
    y: Tensor


def make(rows: int = 6, width: int = 3, batch: int = 8, scale: float = 1.0, seed: int = 0) -> Case:
    generator = torch.Generator().manual_seed(seed)
    net = Toy(rows, width)
    with torch.no_grad():
        for p in net.parameters():
            p.copy_(torch.randn(p.shape, generator=generator) * scale)
        net.left.weight[0] = 0
    ids = torch.randint(0, rows, (batch, 2), generator=generator)
    return Case(net, ids, torch.randint(0, 2, (batch,), generator=generator).float())


def loss_of(net: nn.Module, case: Case) -> Tensor:
    return nn.functional.binary_cross_entropy_with_logits(net(case.ids), case.y)


def plain_steps(
    case: Case, embedding: Penalty, others: Penalty, clip: float | None, steps: int, lr: float
) -> nn.Module:
    net = copy.deepcopy(case.net)
    adam = torch.optim.Adam(net.parameters(), lr=lr, foreach=False, fused=False)
    for _ in range(steps):
        adam.zero_grad()
        (loss_of(net, case) + penalty_value(net, embedding, others)).backward()
        if clip is not None:
            nn.utils.clip_grad_norm_(net.parameters(), clip)
        adam.step()
    return net


def our_steps(case: Case, embedding: Penalty, others: Penalty, clip: float | None, steps: int, lr: float) -> nn.Module:
    net = copy.deepcopy(case.net)
    adam = build_optimizer(net, OptimConfig(lr=lr, clip_norm=clip), embedding, others)
    for _ in range(steps):
        adam.zero_grad()
        loss_of(net, case).backward()
        if clip is not None:
            clip_gradients(adam, clip)
        adam.step()
    return net


def assert_same(ours: nn.Module, plain: nn.Module, atol: float = 1e-5) -> None:
    for (name, a), b in zip(ours.named_parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(a, b, atol=atol, rtol=1e-5, msg=lambda m, name=name: f"{name}: {m}")


weights = st.sampled_from([0.0, 1e-6, 1e-3, 0.1])
penalties = st.builds(Penalty, l1=weights, l2=weights)


@settings(max_examples=40, deadline=None)
@given(
    rows=st.integers(1, 9),
    width=st.integers(1, 5),
    embedding=penalties,
    others=penalties,
    clip=st.sampled_from([None, 1e-3, 0.5, 1e3]),
    seed=st.integers(0, 99),
)
def test_equals_the_reference(rows, width, embedding, others, clip, seed):
    # float64: in float32 the sign of tiny gradients may flip
    case = make(rows, width, seed=seed)
    case = Case(case.net.double(), case.ids, case.y.double())
    ours = our_steps(case, embedding, others, clip, steps=4, lr=0.01)
    assert_same(ours, plain_steps(case, embedding, others, clip, steps=4, lr=0.01), atol=1e-7)


@pytest.mark.parametrize("clip", [None, 0.05, 10.0])
def test_equals_the_reference_in_float32(clip):
    case = make(rows=40, width=8, batch=64, scale=0.5)
    arguments = (case, Penalty(l1=1e-4, l2=1e-3), Penalty(l2=5e-4), clip)
    assert_same(our_steps(*arguments, steps=10, lr=1e-3), plain_steps(*arguments, steps=10, lr=1e-3))


def test_clipping_is_active_and_counts_the_penalty():
    case = make()
    embedding, others = Penalty(l1=0.3, l2=0.7), Penalty(l2=0.2)
    reference = copy.deepcopy(case.net)
    (loss_of(reference, case) + penalty_value(reference, embedding, others)).backward()
    expected = nn.utils.clip_grad_norm_(reference.parameters(), 0.01)

    adam = build_optimizer(case.net, OptimConfig(), embedding, others)
    loss_of(case.net, case).backward()
    norm = clip_gradients(adam, 0.01)
    assert norm.item() == pytest.approx(expected.item(), rel=1e-6)
    assert norm.item() > 0.01
    c = 0.01 / (norm.item() + 1e-6)
    for p, q in zip(case.net.parameters(), reference.parameters(), strict=True):
        l2 = embedding.l2 if p is case.net.left.weight or p is case.net.right.weight else others.l2
        torch.testing.assert_close(p.grad + c * l2 * p, q.grad, atol=1e-7, rtol=1e-5)


def test_clip_scale_lasts_one_step():
    case = make()
    adam = build_optimizer(case.net, OptimConfig(), Penalty(l2=0.5), Penalty())
    loss_of(case.net, case).backward()
    norm = clip_gradients(adam, 0.01).item()
    adam.step()
    assert adam.param_groups[0]["weight_decay"] == pytest.approx(0.5 * 0.01 / (norm + 1e-6))
    adam.step()
    assert adam.param_groups[0]["weight_decay"] == 0.5


def test_zero_grad_clears_the_clipping():
    case = make()
    adam = build_optimizer(case.net, OptimConfig(), Penalty(l1=0.1, l2=0.5), Penalty())
    loss_of(case.net, case).backward()
    clip_gradients(adam, 0.01)
    adam.zero_grad()
    loss_of(case.net, case).backward()
    before = case.net.left.weight.grad.clone()
    adam.step()
    torch.testing.assert_close(case.net.left.weight.grad, before + 0.1 * make().net.left.weight.sign())
    assert adam.param_groups[0]["weight_decay"] == 0.5


def test_absent_gradient_with_and_without_penalty():
    case = make()
    adam = build_optimizer(case.net, OptimConfig(), Penalty(l2=0.1), Penalty())
    idle = case.net.idle.weight.detach().clone()
    loss_of(case.net, case).backward()
    adam.step()
    assert case.net.idle.weight.grad is None
    assert torch.equal(case.net.idle.weight, idle)

    adam = build_optimizer(case.net, OptimConfig(lr=0.01), Penalty(), Penalty(l2=0.1))
    adam.zero_grad()
    loss_of(case.net, case).backward()
    adam.step()
    # the first Adam step moves every weight by lr against the sign of its gradient, here that of the weight itself
    torch.testing.assert_close(case.net.idle.weight, idle - 0.01 * idle.sign(), atol=1e-6, rtol=0)


def test_nan_norm_reaches_the_weights():
    case = make()
    adam = build_optimizer(case.net, OptimConfig(), Penalty(), Penalty())
    (loss_of(case.net, case) * float("nan")).backward()
    assert clip_gradients(adam, 10.0).isnan()
    adam.step()
    assert case.net.head.weight.isnan().all()


def test_closure_may_clip():
    case = make()
    embedding = Penalty(l1=0.1, l2=0.5)
    expected = plain_steps(case, embedding, Penalty(), clip=0.05, steps=1, lr=1e-3)
    adam = build_optimizer(case.net, OptimConfig(), embedding, Penalty())

    def closure() -> float:
        adam.zero_grad()
        loss = loss_of(case.net, case)
        loss.backward()
        clip_gradients(adam, 0.05)
        return loss.item()

    assert adam.step(closure) > 0
    assert_same(case.net, expected)


@pytest.mark.parametrize("clip", [None, 0.05])
def test_batch_mode_penalises_touched_rows_once(clip):
    case = make(rows=8, batch=6, seed=3)
    case.ids[:, 1] = torch.tensor([1, 1, 1, 4, 4, 2])
    embedding = Penalty(l1=0.05, l2=0.2)
    reference = copy.deepcopy(case.net)
    plain = torch.optim.Adam(reference.parameters(), lr=0.01)
    left = case.ids[:, 0].unique()
    rows = [reference.left.weight[left[left > 0]], reference.right.weight[torch.tensor([1, 2, 4])]]
    (loss_of(reference, case) + sum(embedding.of(r) for r in rows)).backward()
    if clip:
        nn.utils.clip_grad_norm_(reference.parameters(), clip)
    plain.step()

    adam = build_optimizer(case.net, OptimConfig(lr=0.01), embedding, Penalty(), mode="batch")
    untouched = case.net.right.weight[0].detach().clone()
    loss_of(case.net, case).backward()
    if clip:
        clip_gradients(adam, clip)
    adam.step()
    assert_same(case.net, reference)
    assert torch.equal(case.net.right.weight[0], untouched)


def test_batch_mode_of_joint_batch_equals_averaged_parts():
    """Two ranks average their gradients; penalised rows and penalty are those of one process."""
    case = make(rows=8, batch=8)
    embedding = Penalty(l1=0.05, l2=0.2)
    joint, parts = copy.deepcopy(case.net), copy.deepcopy(case.net)
    loss_of(joint, case).backward()
    for half in (slice(0, 4), slice(4, 8)):
        (loss_of(parts, Case(parts, case.ids[half], case.y[half])) / 2).backward()
    for net in (joint, parts):
        build_optimizer(net, OptimConfig(), embedding, Penalty(), mode="batch").step()
    assert_same(joint, parts)


def test_the_state_can_be_saved_and_restored():
    case = make()
    arguments = (OptimConfig(lr=0.01), Penalty(l1=0.01, l2=0.1), Penalty())
    expected = our_steps(case, *arguments[1:], clip=0.1, steps=4, lr=0.01)
    state = None
    for _ in range(2):
        adam = build_optimizer(case.net, *arguments)
        if state is not None:
            adam.load_state_dict(copy.deepcopy(state))
        for _ in range(2):
            adam.zero_grad()
            loss_of(case.net, case).backward()
            clip_gradients(adam, 0.1)
            adam.step()
        state = adam.state_dict()
    assert_same(case.net, expected, atol=0)


def test_the_optimiser_can_be_copied():
    case = make()
    adam = build_optimizer(case.net, OptimConfig(), Penalty(l2=0.1), Penalty())
    reference = copy.deepcopy(adam)
    assert isinstance(reference, PenalisedAdam)
    reference.step()


def test_fused_and_groups():
    net = make().net
    adam = build_optimizer(net, OptimConfig(lr=0.3, betas=(0.5, 0.6), eps=0.1), Penalty(l2=0.1), Penalty(l1=0.2))
    assert adam.defaults["fused"] is True
    assert [(g["name"], g["l1"], g["l2"], g["lr"], g["betas"], g["eps"]) for g in adam.param_groups] == [
        ("embedding", 0.0, 0.1, 0.3, (0.5, 0.6), 0.1),
        ("net", 0.2, 0.0, 0.3, (0.5, 0.6), 0.1),
    ]
    assert sum(len(g["params"]) for g in adam.param_groups) == len(list(net.parameters()))


def test_clip_refuses_another_optimiser():
    with pytest.raises(TypeError, match="PenalisedOptimizer"):
        clip_gradients(torch.optim.SGD(make().net.parameters(), lr=1.0), 1.0)

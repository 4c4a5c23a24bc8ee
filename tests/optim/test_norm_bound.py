"""Clipping without the norm: the weights are bit-equal to those of clipping with it, and most steps need no norm."""

from __future__ import annotations

import copy
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from stemlab.optim import OptimConfig, Penalty, build_optimizer, clip_gradients, limit_gradients, norm_bound
from stemlab.optim.norm_bound import WeightBound, is_norm_below, largest_adam_change
from stemlab.optim.penalised import PenalisedOptimizer
from tests.optim.test_adam import Case, loss_of, make
from tests.optim.test_tables import by_rows

FORMS = {
    "dense": {},
    "rows of the batch": {"mode": "batch"},
    "adamw": {"name": "adamw"},
    "sgd": {"name": "sgd"},
    "sparse adam": {"tables": "sparse_adam", "mode": "batch"},
    "adagrad of rows": {"tables": "rowwise_adagrad", "mode": "batch"},
}


def optimizer_of(net: nn.Module, form: str, l2: float) -> PenalisedOptimizer:
    chosen = dict(FORMS[form])
    mode = chosen.pop("mode", "dense")
    if "tables" in chosen:
        by_rows(net)
    return build_optimizer(net, OptimConfig(lr=0.01, **chosen), Penalty(l2=l2), Penalty(l2=l2 / 2), mode)


def trained(case: Case, form: str, max_norm: float, needs_norm: bool, steps: int = 5) -> list[Tensor]:
    net = copy.deepcopy(case.net)
    optimizer = optimizer_of(net, form, 0.3)
    for _ in range(steps):
        optimizer.zero_grad()
        loss_of(net, case).backward()
        (clip_gradients if needs_norm else limit_gradients)(optimizer, max_norm)
        optimizer.step()
    return [p.detach() for p in net.parameters()]


@pytest.mark.parametrize("form", FORMS)
def test_weights_are_those_of_clipping_with_the_norm(form: str) -> None:
    case = make(rows=30, width=4, batch=16)
    net = copy.deepcopy(case.net)
    optimizer = optimizer_of(net, form, 0.3)
    loss_of(net, case).backward()
    first = float(clip_gradients(optimizer, 1e9))
    # below, at and near the limit, and above it
    for max_norm in (first / 10, first, first * 1.005, first * 1.5, first * 10):
        ours, expected = (trained(case, form, max_norm, needs_norm) for needs_norm in (False, True))
        assert all(torch.equal(a, b) for a, b in zip(ours, expected, strict=True))


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 99),
    scale=st.sampled_from([1e-4, 1.0, 100.0]),
    l2=st.sampled_from([0.0, 1e-6, 0.5]),
    dtype=st.sampled_from([torch.float32, torch.float64, torch.bfloat16]),
    small=st.sampled_from([0, 12, 1 << 14]),
)
def test_the_bound_is_at_least_the_norm(seed: int, scale: float, l2: float, dtype: torch.dtype, small: int) -> None:
    case = make(scale=scale, seed=seed)
    optimizer = build_optimizer(case.net, OptimConfig(), Penalty(l2=l2), Penalty(l2=2 * l2))
    loss_of(case.net, case).backward()
    for group in optimizer.param_groups:
        for p in group["params"]:
            p.data = p.data.to(dtype)
            p.grad = None if p.grad is None else p.grad.to(dtype)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(norm_bound, "_SMALL", small)
        norm = float(copy.deepcopy(optimizer).clip(1e9))
        gradients = length_of([p.grad for p in case.net.parameters() if p.grad is not None])
        most = 1.02 * (gradients + 3 * l2 * length_of(list(case.net.parameters())))
        below = [is_norm_below(limit, optimizer.param_groups, (), bound_of(optimizer)) for limit in (norm, most + 1e-9)]
    assert below == [False, True]  # norm <= bound < most


def bound_of(optimizer: PenalisedOptimizer) -> WeightBound:
    """Return the bound of the weights, which was not measured yet."""
    return WeightBound(optimizer.param_groups, [math.inf] * len(optimizer.param_groups))


def length_of(tensors: list[Tensor]) -> float:
    return math.hypot(*(float(tensor.detach().double().norm()) for tensor in tensors))


def test_which_steps_compute_the_norm(monkeypatch: pytest.MonkeyPatch) -> None:
    case, called = make(), []
    clip = PenalisedOptimizer.clip
    monkeypatch.setattr(PenalisedOptimizer, "clip", lambda self, limit: called.append(limit) or clip(self, limit))
    optimizer = build_optimizer(case.net, OptimConfig(), Penalty(l2=0.1), Penalty())
    for factor, max_norm in ((1.0, 50.0), (1.0, 0.01), (1.0, 51.0), (1.0, 52.0), (math.nan, 53.0)):
        optimizer.zero_grad()
        (loss_of(case.net, case) * factor).backward()
        limit_gradients(optimizer, max_norm)
    assert called == [0.01, 51.0, 53.0]  # above the limit, after a clipped step, not finite
    optimizer.step()
    assert case.net.head.weight.isnan().all()


@settings(max_examples=30, deadline=None)
@given(
    seed=st.integers(0, 99),
    betas=st.sampled_from([(0.9, 0.999), (0.0, 0.9), (0.5, 0.3), (0.97, 0.95), (0.9, 0.8)]),
    form=st.sampled_from(["adam", "adagrad", "sgd"]),
    scales=st.lists(st.sampled_from([0.0, 1e-6, 1.0, 1e4]), min_size=1, max_size=6),
    max_norm=st.sampled_from([1e-3, 1e9]),
)
def test_the_bound_of_the_weights_holds_after_steps(
    seed: int, betas: tuple[float, float], form: str, scales: list[float], max_norm: float
) -> None:
    case = make(seed=seed)
    optim = OptimConfig(lr=0.1, **({"name": form} if form != "adam" else {"betas": betas}))
    optimizer = build_optimizer(case.net, optim, Penalty(l2=0.5), Penalty(l2=0.1))
    changes = [optimizer._largest_change(group) for group in optimizer.param_groups]
    bound = optimizer._weight_bound = WeightBound(optimizer.param_groups, changes)
    bound.measure()
    for scale in scales:
        assert bound.check()
        optimizer.zero_grad()
        (loss_of(case.net, case) * scale).backward()
        clip_gradients(optimizer, max_norm)
        optimizer.step()
        sizes = [length_of(group["params"]) * group["l2"] for group in optimizer.param_groups]
        assert bound.value >= sum(sizes) * (1 - 1e-6)
    assert (bound.value < math.inf) == (form == "adagrad" or (form == "adam" and betas[0] ** 2 < betas[1]))


def test_the_largest_change_of_adam_is_not_far_above_a_real_one() -> None:
    # gradients that grow by b2 / b1 per step reach the bound of Cauchy and Schwarz, before the bias correction
    b1, b2 = 0.9, 0.999
    weight = nn.Parameter(torch.zeros((), dtype=torch.float64))
    adam = torch.optim.Adam([weight], lr=1.0, betas=(b1, b2), eps=0.0)
    largest = 0.0
    for step in range(400):
        weight.grad = torch.tensor((b2 / b1) ** step, dtype=torch.float64)
        before = weight.item()
        adam.step()
        largest = max(largest, abs(weight.item() - before))
    assert 0.05 * largest_adam_change((b1, b2)) < largest < largest_adam_change((b1, b2))


def test_weights_are_read_again_only_after_a_change_by_other_code(monkeypatch: pytest.MonkeyPatch) -> None:
    case, read = make(), []
    measure = WeightBound.measure
    monkeypatch.setattr(WeightBound, "measure", lambda self: read.append(step) or measure(self))
    optimizer = build_optimizer(case.net, OptimConfig(lr=1e-3), Penalty(l2=0.1), Penalty())
    for step in range(14):
        optimizer.zero_grad()
        loss_of(case.net, case).backward()
        if step == 3:
            with torch.no_grad():
                case.net.left.weight.mul_(1.5)
        elif step == 9:
            optimizer.load_state_dict(optimizer.state_dict())
        elif step == 12:
            with torch.no_grad():
                case.net.left.weight[1:] = 1e6
        (clip_gradients if step == 6 else limit_gradients)(optimizer, 50.0)
        if step == 6:
            with torch.no_grad():
                case.net.left.weight.mul_(1.5)
        optimizer.step()
        assert optimizer._clipped == (step >= 12)
    assert read == [0, 3, 7, 9, 12]

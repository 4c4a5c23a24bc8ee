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
from stemlab.optim.norm_bound import norm_bound as bound_of
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
        bound = bound_of(optimizer.param_groups)
    norm = float(clip_gradients(optimizer, 1e9))
    gradients = length_of([p.grad for p in case.net.parameters() if p.grad is not None])
    assert norm <= bound <= 1.02 * (gradients + 3 * l2 * length_of(list(case.net.parameters())))


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

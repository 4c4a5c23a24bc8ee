"""Schedules equal those of torch.optim.lr_scheduler."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.optim import SGD
from torch.optim.lr_scheduler import ConstantLR, CosineAnnealingLR, LinearLR, LRScheduler, SequentialLR, StepLR

from stemlab.errors import StemlabError
from stemlab.optim import RateSchedule, ScheduleConfig
from stemlab.optim.schedule import rates_to_numbers, rates_to_tensors


def optimizer() -> SGD:
    weights = [nn.Parameter(torch.zeros(2)) for _ in range(2)]
    return SGD([{"params": weights[:1]}, {"params": weights[1:], "lr": 0.5}], lr=0.1)


def of_torch(name: str | None, theirs: SGD, steps: int, final: float) -> LRScheduler:
    if name == "cosine":
        scheduler = CosineAnnealingLR(theirs, steps)
        scheduler.base_lrs = [0.1, 0.5]
        return scheduler
    if name == "linear":
        return LinearLR(theirs, 1.0, final, steps)
    return StepLR(theirs, 3, 0.5) if name == "step" else ConstantLR(theirs, 1.0, 1)


@settings(max_examples=40, deadline=None)
@given(
    name=st.sampled_from([None, "cosine", "linear", "step"]),
    warmup=st.integers(0, 5),
    steps=st.integers(1, 9),
    final=st.sampled_from([0.0, 0.25]),
)
def test_equals_the_schedulers_of_torch(name, warmup, steps, final):
    final = final if name == "linear" else 0.0
    shape = {"step_size": 3, "gamma": 0.5} if name == "step" else {}
    config = ScheduleConfig(name=name, warmup_steps=warmup, final_factor=final, **shape)
    schedule, ours, theirs = RateSchedule(config, warmup + steps), optimizer(), optimizer()
    scheduler = of_torch(name, theirs, steps, final)
    if warmup:
        theirs = optimizer()
        warm = LinearLR(theirs, 1 / warmup, 1.0, max(warmup - 1, 1)) if warmup > 1 else ConstantLR(theirs, 1.0, 1)
        scheduler = SequentialLR(theirs, [warm, of_torch(name, theirs, steps, final)], [warmup])
    for step in range(warmup + steps):
        schedule.apply(ours, step)
        assert [group["lr"] for group in ours.param_groups] == pytest.approx(
            [group["lr"] for group in theirs.param_groups], rel=1e-9, abs=1e-12
        )
        theirs.step()
        scheduler.step()
    assert schedule.rates(ours, step, 1)[0] == [group["lr"] for group in ours.param_groups]


def test_the_last_factor_stays_after_the_end():
    schedule = RateSchedule(ScheduleConfig(name="cosine", final_factor=0.2, total_steps=4), 100)
    assert schedule.factor(0) == 1.0
    assert schedule.factor(4) == schedule.factor(9) == pytest.approx(0.2)


@pytest.mark.parametrize("tensors", [False, True])
def test_a_reduction_during_the_warmup_reduces_the_base(tensors):
    schedule, ours = RateSchedule(ScheduleConfig(warmup_steps=4), 10), optimizer()
    if tensors:
        rates = rates_to_tensors(ours)
    schedule.apply(ours, 0)
    with schedule.base_rates(ours):
        assert float(ours.param_groups[0]["lr"]) == 0.1
        if tensors:
            rates[0].mul_(0.1)
        else:
            ours.param_groups[0]["lr"] *= 0.1
    assert [float(group["lr"]) for group in ours.param_groups] == pytest.approx([0.0025, 0.125])
    schedule.apply(ours, 5)
    assert [float(group["lr"]) for group in ours.param_groups] == pytest.approx([0.01, 0.5])
    state = ours.state_dict()["param_groups"]
    rates_to_numbers(state)
    assert all(type(group["lr"]) is float for group in state)


def test_a_warmup_as_long_as_the_training_is_refused():
    with pytest.raises(StemlabError, match="warmup_steps=5"):
        RateSchedule(ScheduleConfig(name="linear", warmup_steps=5), 5)

"""Routing of samples to the modules of their scenario."""

import hypothesis.strategies as st
import pytest
import torch
from hypothesis import given

from stemlab.data.batch import ImpressionBatch
from stemlab.models.multiscenario.base import batch_scenarios, merge_scenarios, samples_by_scenario, split_by_scenario

ids = st.lists(st.integers(0, 3), min_size=1, max_size=12)


@given(ids)
def test_samples_by_scenario(scenarios: list[int]) -> None:
    samples = samples_by_scenario(torch.tensor(scenarios), 4)
    assert [index.tolist() for index in samples] == [[r for r, s in enumerate(scenarios) if s == k] for k in range(4)]


def test_an_unknown_scenario_raises() -> None:
    for known in (1, 2):
        with pytest.raises(ValueError, match="scenario id 2"):
            samples_by_scenario(torch.tensor([0, 2]), known)


@given(ids)
def test_merge_restores_the_order_and_the_gradients(scenarios: list[int]) -> None:
    samples = samples_by_scenario(torch.tensor(scenarios), 4)
    input_BH = torch.randn(len(scenarios), 3, requires_grad=True)
    joined_BH = merge_scenarios(split_by_scenario(input_BH, samples), samples, len(scenarios))
    assert torch.equal(joined_BH, input_BH)
    weight_BH = torch.randn_like(input_BH)
    (joined_BH * weight_BH).sum().backward()
    assert torch.equal(input_BH.grad, weight_BH)


@given(ids)
def test_a_sample_uses_the_module_of_its_scenario(scenarios: list[int]) -> None:
    scenario_B, factors = torch.tensor(scenarios), torch.arange(1.0, 5.0, requires_grad=True)
    parts = [lambda x, s=s: x * factors[s] for s in range(4)]
    samples = samples_by_scenario(scenario_B, 4)
    inputs = split_by_scenario(torch.ones(len(scenarios), 1), samples)
    out_B1 = merge_scenarios([part(own) for part, own in zip(parts, inputs, strict=True)], samples, len(scenarios))
    assert out_B1.flatten().tolist() == [s + 1 for s in scenarios]
    out_B1.sum().backward()
    assert factors.grad.tolist() == [scenarios.count(s) for s in range(4)]


def test_no_scenario_is_scenario_0() -> None:
    batch = ImpressionBatch(torch.zeros(3, 1, dtype=torch.int32))
    assert batch_scenarios(batch).tolist() == [0, 0, 0]
    assert [index.tolist() for index in samples_by_scenario(batch_scenarios(batch), 2)] == [[0, 1, 2], []]
    batch.scenario_B = torch.tensor([1, 0, 1], dtype=torch.int32)
    assert batch_scenarios(batch).tolist() == [1, 0, 1]

import hypothesis.strategies as st
import pytest
import torch
from hypothesis import given

from stemlab.data.batch import ImpressionBatch
from stemlab.models.multiscenario.base import join_rows, rows_by_scenario, scenario_ids, take_rows

ids = st.lists(st.integers(0, 3), min_size=1, max_size=12)


@given(ids)
def test_rows_of_a_scenario(scenarios: list[int]) -> None:
    rows = rows_by_scenario(torch.tensor(scenarios), 4)
    assert [index.tolist() for index in rows] == [[r for r, s in enumerate(scenarios) if s == k] for k in range(4)]


def test_an_unknown_scenario_is_refused() -> None:
    for known in (1, 2):
        with pytest.raises(ValueError, match="scenario id 2"):
            rows_by_scenario(torch.tensor([0, 2]), known)


@given(ids)
def test_rows_come_back_in_their_places_with_their_gradients(scenarios: list[int]) -> None:
    rows = rows_by_scenario(torch.tensor(scenarios), 4)
    input_BH = torch.randn(len(scenarios), 3, requires_grad=True)
    joined_BH = join_rows(take_rows(input_BH, rows), rows, len(scenarios))
    assert torch.equal(joined_BH, input_BH)
    weight_BH = torch.randn_like(input_BH)
    (joined_BH * weight_BH).sum().backward()
    assert torch.equal(input_BH.grad, weight_BH)


@given(ids)
def test_a_row_runs_through_its_own_part(scenarios: list[int]) -> None:
    scenario_B, factors = torch.tensor(scenarios), torch.arange(1.0, 5.0, requires_grad=True)
    parts = [lambda x, s=s: x * factors[s] for s in range(4)]
    rows = rows_by_scenario(scenario_B, 4)
    taken = take_rows(torch.ones(len(scenarios), 1), rows)
    out_B1 = join_rows([part(own) for part, own in zip(parts, taken, strict=True)], rows, len(scenarios))
    assert out_B1.flatten().tolist() == [s + 1 for s in scenarios]
    out_B1.sum().backward()
    assert factors.grad.tolist() == [scenarios.count(s) for s in range(4)]


def test_no_scenario_means_the_first() -> None:
    batch = ImpressionBatch(torch.zeros(3, 1, dtype=torch.int32))
    assert scenario_ids(batch).tolist() == [0, 0, 0]
    assert [index.tolist() for index in rows_by_scenario(scenario_ids(batch), 2)] == [[0, 1, 2], []]
    batch.scenario_B = torch.tensor([1, 0, 1], dtype=torch.int32)
    assert scenario_ids(batch).tolist() == [1, 0, 1]

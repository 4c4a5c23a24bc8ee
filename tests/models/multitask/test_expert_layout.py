"""Expert layouts of STEM, PLE and MMoE, written out."""

from __future__ import annotations

import pytest

from stemlab.models.multitask.expert_layout import one_pool_layout, specific_shared_layout

TASKS = ["finish", "like"]
ALL, OWN_0, OWN_1 = (0, 1, 2, 3), (0, 2, 3), (1, 2, 3)


def test_stem() -> None:
    layout = specific_shared_layout(TASKS, 1, 2, "aftb", "sum", "all")
    assert layout.expert_inputs == (0, 1, 2, 2)
    assert layout.expert_groups == ("task:finish", "task:like", "shared", "shared")
    assert layout.visible_experts == (ALL, ALL, ALL)
    assert layout.trainable == ((True, False, True, True), (False, True, True, True), (True,) * 4)
    assert layout.gate_inputs == ((0, 2), (1, 2), (2,))
    assert not layout.mean_gate_input


@pytest.mark.parametrize(
    ("rule", "sees", "trains"),
    [
        ("all_backward", ALL, (True, True, True, True)),
        ("stop_shared_too", ALL, (True, False, False, False)),
        ("cgc", OWN_0, (True, True, True)),
    ],
)
def test_rules_of_the_first_task(rule: str, sees: tuple[int, ...], trains: tuple[bool, ...]) -> None:
    layout = specific_shared_layout(TASKS, 1, 2, rule, "task", "all")
    assert layout.visible_experts[0] == sees
    assert layout.trainable[0] == trains
    assert layout.gate_inputs == ((0,), (1,), (2,))


def test_ple() -> None:
    layout = specific_shared_layout(TASKS, 1, 2, "cgc", "task", "shared")
    assert layout.visible_experts == (OWN_0, OWN_1, (2, 3))
    assert all(all(row) for row in layout.trainable)


def test_without_specific_or_shared_experts() -> None:
    assert specific_shared_layout(TASKS, 0, 2, "aftb", "sum", "all").visible_experts == ((0, 1),) * 3
    assert specific_shared_layout(TASKS, 1, 0, "aftb", "shared", "all").trainable == (
        (True, False),
        (False, True),
        (True,) * 2,
    )
    assert specific_shared_layout(TASKS, 1, 0, "aftb", "shared", "all").gate_inputs == ((2,), (2,), (2,))


def test_one_pool() -> None:
    layout = one_pool_layout(3, 2, [0, 1, 2], [0, 1, 2])
    assert layout.visible_experts == ((0, 1, 2),) * 2
    assert layout.trainable == ((True,) * 3,) * 2
    assert layout.expert_groups == ("expert:0", "expert:1", "expert:2")
    assert layout.gate_inputs == ((0, 1, 2),) * 2
    assert layout.mean_gate_input

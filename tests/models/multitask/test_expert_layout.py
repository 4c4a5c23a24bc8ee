"""The three tables of the models with task experts and shared experts, written out."""

from __future__ import annotations

import pytest

from stemlab.models.multitask.expert_layout import one_pool, specific_and_shared

TASKS = ["finish", "like"]
ALL, OWN_0, OWN_1 = (0, 1, 2, 3), (0, 2, 3), (1, 2, 3)


def test_stem() -> None:
    wiring = specific_and_shared(TASKS, 1, 2, "aftb", "sum", "all")
    assert wiring.reads == (0, 1, 2, 2)
    assert wiring.groups == ("task:finish", "task:like", "shared", "shared")
    assert wiring.sees == (ALL, ALL, ALL)
    assert wiring.trains == ((True, False, True, True), (False, True, True, True), (True,) * 4)
    assert wiring.gate_reads == ((0, 2), (1, 2), (2,))
    assert not wiring.gate_mean


@pytest.mark.parametrize(
    ("rule", "sees", "trains"),
    [
        ("all_backward", ALL, (True, True, True, True)),
        ("stop_shared_too", ALL, (True, False, False, False)),
        ("cgc", OWN_0, (True, True, True)),
    ],
)
def test_rules_of_the_first_task(rule: str, sees: tuple[int, ...], trains: tuple[bool, ...]) -> None:
    wiring = specific_and_shared(TASKS, 1, 2, rule, "task", "all")
    assert wiring.sees[0] == sees
    assert wiring.trains[0] == trains
    assert wiring.gate_reads == ((0,), (1,), (2,))


def test_ple() -> None:
    wiring = specific_and_shared(TASKS, 1, 2, "cgc", "task", "shared")
    assert wiring.sees == (OWN_0, OWN_1, (2, 3))
    assert all(all(row) for row in wiring.trains)


def test_without_specific_or_shared_experts() -> None:
    assert specific_and_shared(TASKS, 0, 2, "aftb", "sum", "all").sees == ((0, 1),) * 3
    assert specific_and_shared(TASKS, 1, 0, "aftb", "shared", "all").trains == (
        (True, False),
        (False, True),
        (True,) * 2,
    )
    assert specific_and_shared(TASKS, 1, 0, "aftb", "shared", "all").gate_reads == ((2,), (2,), (2,))


def test_one_pool() -> None:
    wiring = one_pool(3, 2, [0, 1, 2], [0, 1, 2])
    assert wiring.sees == ((0, 1, 2),) * 2
    assert wiring.trains == ((True,) * 3,) * 2
    assert wiring.groups == ("expert:0", "expert:1", "expert:2")
    assert wiring.gate_reads == ((0, 1, 2),) * 2
    assert wiring.gate_mean

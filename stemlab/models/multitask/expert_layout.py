"""Expert layouts: input of each expert, experts visible to each gate, stop-gradient mask.

With task and shared experts (PLE, PLE-ME, STEM), experts and inputs are numbered task by task, shared ones last: input
k belongs to task k, the last input is shared.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from stemlab.nn.experts import ExpertLayout

GateRule = Literal["aftb", "all_backward", "cgc", "stop_shared_too"]
GateInput = Literal["sum", "task", "shared"]
SharedGate = Literal["shared", "all"]


def roles(tasks: Sequence[str]) -> list[str]:
    """Return ``task:<name>`` for every task, then ``shared``: the order of inputs, table blocks and gates."""
    return [*(f"task:{task}" for task in tasks), "shared"]


def specific_shared_layout(
    tasks: Sequence[str],
    specific: int,
    shared: int,
    rule: GateRule,
    gate_input: GateInput,
    shared_gate: SharedGate,
) -> ExpertLayout:
    """Return the layout of one layer with one gate per task and a shared gate.

    Args:
        tasks: task names.
        specific: experts per task.
        shared: shared experts.
        rule: experts that the gate of a task sees and trains. ``aftb`` sees all and trains its own and the shared ones;
            ``all_backward`` sees and trains all; ``cgc`` sees and trains its own and the shared ones;
            ``stop_shared_too`` sees all and trains its own.
        gate_input: what the gate of a task reads: its own input, the shared one, or their sum.
        shared_gate: whether the shared gate sees the shared experts or all; it trains all that it sees.
    """
    last = len(tasks)
    owners = [task for task in range(last) for _ in range(specific)] + [last] * shared
    task_gates = [_task_gate(owners, task, last, rule) for task in range(last)]
    shared_sees = tuple(e for e, owner in enumerate(owners) if shared_gate == "all" or owner == last)
    names = roles(tasks)
    return ExpertLayout(
        expert_inputs=tuple(owners),
        expert_groups=tuple(names[owner] for owner in owners),
        visible_experts=(*(tuple(gate) for gate in task_gates), shared_sees),
        trainable=(*(tuple(gate.values()) for gate in task_gates), (True,) * len(shared_sees)),
        gate_inputs=(*(_task_gate_inputs(task, last, gate_input) for task in range(last)), (last,)),
    )


def _task_gate(owners: Sequence[int], task: int, shared: int, rule: GateRule) -> dict[int, bool]:
    """Return visible expert -> whether the gate of the task trains it."""
    return {
        e: rule == "all_backward" or owner == task or (owner == shared and rule != "stop_shared_too")
        for e, owner in enumerate(owners)
        if rule != "cgc" or owner in (task, shared)
    }


def _task_gate_inputs(task: int, shared: int, gate_input: GateInput) -> tuple[int, ...]:
    """Return the inputs that are summed for the gate of a task."""
    return {"sum": (task, shared), "task": (task,), "shared": (shared,)}[gate_input]


def one_pool_layout(experts: int, gates: int, expert_inputs: Sequence[int], gate_inputs: Sequence[int]) -> ExpertLayout:
    """Return the layout of OMoE and MMoE: every gate sees and trains every expert.

    Args:
        experts: number of experts; each is a group of its own.
        gates: number of gates.
        expert_inputs: expert -> input.
        gate_inputs: the inputs whose mean every gate reads.
    """
    every_expert = tuple(range(experts))
    return ExpertLayout(
        expert_inputs=tuple(expert_inputs),
        expert_groups=tuple(f"expert:{e}" for e in every_expert),
        visible_experts=(every_expert,) * gates,
        trainable=((True,) * experts,) * gates,
        gate_inputs=(tuple(gate_inputs),) * gates,
        mean_gate_input=True,
    )

"""Expert tables of the models that have experts of tasks and shared experts (PLE, PLE-ME, STEM).

Experts are numbered task by task, then shared; inputs likewise: input k belongs to task k, the last one is shared.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from stemlab.nn.experts import Wiring

GateRule = Literal["aftb", "all_backward", "cgc", "stop_shared_too"]
GateInput = Literal["sum", "task", "shared"]
SharedGate = Literal["shared", "all"]


def roles(tasks: Sequence[str]) -> list[str]:
    """Return ``task:<name>`` for every task, then ``shared``: the order of inputs, table blocks and gates."""
    return [*(f"task:{task}" for task in tasks), "shared"]


def specific_and_shared(
    tasks: Sequence[str],
    specific: int,
    shared: int,
    rule: GateRule,
    gate_input: GateInput,
    shared_gate: SharedGate,
) -> Wiring:
    """Return the tables of one layer with one gate a task and a shared gate.

    Args:
        tasks: task names.
        specific: experts of each task.
        shared: shared experts.
        rule: which experts a task's gate sees and trains: ``aftb`` sees all and trains its own and the shared ones;
            ``all_backward`` sees and trains all; ``cgc`` sees and trains its own and the shared ones;
            ``stop_shared_too`` sees all and trains its own.
        gate_input: what a task's gate reads: its own input, the shared one, or their sum.
        shared_gate: whether the shared gate sees the shared experts or all; it trains all that it sees.
    """
    last = len(tasks)
    owner = [task for task in range(last) for _ in range(specific)] + [last] * shared
    rows = [_task_gate(owner, task, last, rule) for task in range(last)]
    shared_row = tuple(e for e, o in enumerate(owner) if shared_gate == "all" or o == last)
    names = roles(tasks)
    return Wiring(
        reads=tuple(owner),
        groups=tuple(names[o] for o in owner),
        sees=(*(tuple(row) for row in rows), shared_row),
        trains=(*(tuple(row.values()) for row in rows), (True,) * len(shared_row)),
        gate_reads=(*(_task_gate_reads(task, last, gate_input) for task in range(last)), (last,)),
    )


def _task_gate(owner: Sequence[int], task: int, shared: int, rule: GateRule) -> dict[int, bool]:
    """Return the experts that a task's gate sees -> whether it trains them."""
    own = {e for e, o in enumerate(owner) if o == task}
    return {
        e: rule == "all_backward" or e in own or (o == shared and rule != "stop_shared_too")
        for e, o in enumerate(owner)
        if rule != "cgc" or o in (task, shared)
    }


def _task_gate_reads(task: int, shared: int, gate_input: GateInput) -> tuple[int, ...]:
    """Return the inputs that a task's gate adds up."""
    return {"sum": (task, shared), "task": (task,), "shared": (shared,)}[gate_input]


def one_pool(experts: int, gates: int, reads: Sequence[int], gate_reads: Sequence[int]) -> Wiring:
    """Return the tables of OMoE and MMoE: every gate sees and trains every expert.

    Args:
        experts: number of experts; each is a group of its own.
        gates: number of gates.
        reads: expert -> input.
        gate_reads: the inputs whose mean every gate reads.
    """
    everyone = tuple(range(experts))
    return Wiring(
        reads=tuple(reads),
        groups=tuple(f"expert:{e}" for e in everyone),
        sees=(everyone,) * gates,
        trains=((True,) * experts,) * gates,
        gate_reads=(tuple(gate_reads),) * gates,
        gate_mean=True,
    )

"""How expert outputs are mixed by gates.

All mixtures of a layer are one autograd node: no stacked copy of the experts, no copy for a stopped gradient, and no
temporary larger than a block of rows (on the processor those stay in cache). The tests have the plain twin.

Legend: B rows, C rows of a block, E experts a gate sees, H width of an expert's output.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

BLOCK_ROWS = 512

Table = Sequence[Sequence[int]]
Flags = Sequence[Sequence[bool]]


def mix(experts: Sequence[Tensor], weights: Sequence[Tensor], sees: Table, trains: Flags) -> list[Tensor]:
    """Return every gate's weighted sum of the experts it sees.

    Args:
        experts: outputs of all experts of the layer, (B, H) each.
        weights: gate weights, (B, E) each; E may differ from gate to gate.
        sees: gate -> indices into ``experts`` in the order of the columns of its weights.
        trains: gate -> whether the gate's loss may train that expert; an expert that it may not train is read with its
            gradient stopped (the gate weight keeps its gradient).

    Returns:
        One (B, H) mixture a gate, in the experts' dtype.
    """
    if not weights:
        return []
    mixed: tuple[Tensor, ...] = _Mix.apply(sees, trains, *weights, *experts)  # type: ignore[no-untyped-call]
    return list(mixed)


class _Mix(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, sees: Table, trains: Flags, *tensors: Tensor) -> tuple[Tensor, ...]:
        ctx.set_materialize_grads(False)  # a mixture nobody used must leave the gradients absent, not zero
        ctx.sees, ctx.trains = sees, trains
        ctx.save_for_backward(*tensors)
        weights, experts = tensors[: len(sees)], tensors[len(sees) :]
        mixed = [torch.empty_like(experts[row[0]]) for row in sees]
        for rows in _blocks(experts[0]):
            for weight_BE, out_BH, row in zip(weights, mixed, sees, strict=True):
                weight_CE = weight_BE[rows].to(out_BH.dtype)
                terms = [(weight_CE[:, k, None], experts[e][rows]) for k, e in enumerate(row)]
                _sum_products(out_BH[rows], terms)
        return tuple(mixed)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor | None) -> tuple[Tensor | None, ...]:
        sees, trains = ctx.sees, ctx.trains
        weights, experts = ctx.saved_tensors[: len(sees)], ctx.saved_tensors[len(sees) :]
        live = {gate: grad_BH for gate, grad_BH in enumerate(grads) if grad_BH is not None}
        learners = _learners(sees, trains, live, ctx.needs_input_grad[2 + len(sees) :])
        grad_weights = {gate: torch.empty_like(weights[gate]) for gate in live}
        grad_experts = {e: torch.empty_like(experts[e]) for e, pairs in learners.items() if pairs}
        for rows in _blocks(experts[0]):
            for gate, grad_BE in grad_weights.items():
                for k, e in enumerate(sees[gate]):
                    grad_BE[rows, k] = torch.linalg.vecdot(live[gate][rows], experts[e][rows])
            for e, grad_BH in grad_experts.items():
                terms = [(weights[g][rows, k, None].to(grad_BH.dtype), live[g][rows]) for g, k in learners[e]]
                _sum_products(grad_BH[rows], terms)
        return None, None, *map(grad_weights.get, range(len(sees))), *map(grad_experts.get, range(len(experts)))


def _learners(
    sees: Table, trains: Flags, live: Iterable[int], needed: Sequence[bool]
) -> dict[int, list[tuple[int, int]]]:
    """Return expert -> the (gate, column) pairs whose gradient reaches it."""
    learners: dict[int, list[tuple[int, int]]] = {expert: [] for expert in range(len(needed))}
    for gate in live:
        for column, (expert, train) in enumerate(zip(sees[gate], trains[gate], strict=True)):
            if train and needed[expert]:
                learners[expert].append((gate, column))
    return learners


def _sum_products(out_CH: Tensor, terms: Sequence[tuple[Tensor, Tensor]]) -> None:
    """Write the sum of left (C, 1) * right (C, H) over the terms."""
    torch.mul(*terms[0], out=out_CH)
    for left_C1, right_CH in terms[1:]:
        out_CH.addcmul_(left_C1, right_CH)


def _blocks(sample_BH: Tensor) -> Iterator[slice]:
    """Cut the rows so that a block of every expert fits the processor's caches; elsewhere take them at once."""
    total = sample_BH.shape[0]
    size = BLOCK_ROWS if sample_BH.device.type == "cpu" else max(total, 1)
    for start in range(0, total, size):
        yield slice(start, min(start + size, total))

"""Cosine of the gradients of two tasks' losses with respect to the weights that both train.

Embedding tables are compared on the rows that the batch looks up (the gradient of other rows is zero), so the cost does
not grow with the vocabulary. A weight counts for two tasks if the losses of both have a gradient there: the shared
table and the shared experts of STEM count, its task tables do not.

Legend: B batch, U unique ids of a batch, D embedding width, S blocks of a table, T tasks.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import combinations

import torch
from torch import Tensor, nn

from stemlab.nn.embedding import field_embeddings

Gradients = tuple[Tensor | None, ...]
"""Gradients of one task's loss, one per tensor; ``None`` where there is none."""


@dataclass(slots=True)
class Lookup:
    """One embedding lookup.

    Attributes:
        table: the table.
        blocks: S, the number of blocks in a row of the table.
        ids_B: ids.
        rows_BD: embeddings, (B, S*D).
    """

    table: nn.Embedding
    blocks: int
    ids_B: Tensor
    rows_BD: Tensor

    def block_gradients(self, grad_BD: Tensor | None) -> list[Tensor | None]:
        """Return the gradient (U, D) of every block's unique rows, from the gradient of ``rows_BD``."""
        if grad_BD is None:
            return [None] * self.blocks
        unique_U, index_B = torch.unique(self.ids_B, return_inverse=True)
        grad_UD = grad_BD.new_zeros(len(unique_U), grad_BD.shape[1]).index_add_(0, index_B, grad_BD)
        if self.table.padding_idx is not None:
            grad_UD[unique_U == self.table.padding_idx] = 0
        return list(grad_UD.chunk(self.blocks, dim=1))


@contextmanager
def record_lookups(net: nn.Module) -> Iterator[list[Lookup]]:
    """Collect the embedding lookups inside the ``with`` block."""
    found: list[Lookup] = []
    handles = []
    for embedding in field_embeddings(net):
        for position, table in enumerate(embedding.tables):
            if not all(weight.requires_grad for weight in table.parameters()):
                continue
            projected = str(position) in (embedding.projections or {})

            def record(
                module: nn.Module,
                inputs: tuple[Tensor],
                rows: Tensor,
                blocks: int = 1 if projected else len(embedding.blocks),
            ) -> None:
                assert isinstance(module, nn.Embedding)
                found.append(Lookup(module, blocks, inputs[0].detach(), rows))

            handles.append(table.register_forward_hook(record))
    try:
        yield found
    finally:
        for handle in handles:
            handle.remove()


def gradient_cosines(
    net: nn.Module, losses_T: Tensor, tasks: Sequence[str], lookups: Sequence[Lookup]
) -> dict[tuple[str, str], dict[str, float]]:
    """Return the cosine of the gradients of every pair of tasks; ``grad`` of the parameters does not change.

    Args:
        net: the network that computed the losses.
        losses_T: one loss per task, with its graph.
        tasks: task names.
        lookups: collected by ``record_lookups`` in the forward pass.

    Returns:
        Pair of tasks -> part -> cosine. ``tables`` are the embedding tables, ``experts`` all other weights that both
        tasks train (shared experts, a shared bottom). NaN if no weight of a part is trained by both.
    """
    if len(tasks) < 2:
        return {}
    weights = _other_weights(net)
    tensors = [*(lookup.rows_BD for lookup in lookups), *weights]
    by_task = []
    for loss in losses_T:
        # the caller's losses keep the graph alive
        grads = torch.autograd.grad(loss, tensors, retain_graph=True, allow_unused=True)
        found = grads[: len(lookups)]
        blocks = [block for lookup, grad in zip(lookups, found, strict=True) for block in lookup.block_gradients(grad)]
        by_task.append({"tables": tuple(blocks), "experts": grads[len(lookups) :]})
    return {
        (tasks[a], tasks[b]): {part: gradient_cosine(by_task[a][part], by_task[b][part]) for part in by_task[a]}
        for a, b in combinations(range(len(tasks)), 2)
    }


def _other_weights(net: nn.Module) -> list[nn.Parameter]:
    tables = {id(parameter) for embedding in field_embeddings(net) for parameter in embedding.tables.parameters()}
    return [weight for weight in net.parameters() if weight.requires_grad and id(weight) not in tables]


def gradient_cosine(one: Gradients, other: Gradients) -> float:
    """Return the cosine over the tensors with both gradients; NaN if there is none."""
    dot = first = second = 0.0
    for a, b in zip(one, other, strict=True):
        if a is None or b is None:
            continue
        x, y = a.double().flatten(), b.double().flatten()
        lengths = float(x @ x), float(y @ y)
        if all(lengths):
            dot, first, second = dot + float(x @ y), first + lengths[0], second + lengths[1]
    return dot / (first * second) ** 0.5 if first and second else float("nan")

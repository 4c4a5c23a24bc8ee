"""Do the losses of two tasks pull shared weights the same way? The cosine of their gradients.

Tables are compared through the rows of a batch (a gradient of the whole table is zero elsewhere), so the cost does not
grow with the vocabulary. A piece of the network counts for two tasks if the losses of both reach it: the shared table
and the shared experts of STEM count, its task tables do not.

Legend: B rows, U different ids of a batch, D embedding width, S blocks of a table, T tasks.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import combinations

import torch
from torch import Tensor, nn

from stemlab.nn.embedding import FieldEmbedding

Piece = tuple[Tensor | None, ...]
"""A task's gradients of a part of the network, one a piece; ``None`` where its loss does not reach."""


@dataclass(slots=True)
class Lookup:
    """One look-up in a table.

    Attributes:
        table: the table.
        blocks: S, the number of blocks side by side in its rows.
        ids_B: what was looked up.
        rows_BD: what was found, (B, S*D).
    """

    table: nn.Embedding
    blocks: int
    ids_B: Tensor
    rows_BD: Tensor

    def pieces(self, grad_BD: Tensor | None) -> list[Tensor | None]:
        """Return the gradient of each block's rows, (U, D), from that of ``rows_BD``."""
        if grad_BD is None:
            return [None] * self.blocks
        known, place_B = torch.unique(self.ids_B, return_inverse=True)
        grad_UD = grad_BD.new_zeros(len(known), grad_BD.shape[1]).index_add_(0, place_B, grad_BD)
        if self.table.padding_idx is not None:
            grad_UD[known == self.table.padding_idx] = 0
        return list(grad_UD.chunk(self.blocks, dim=1))


@contextmanager
def record_lookups(net: nn.Module) -> Iterator[list[Lookup]]:
    """Collect the look-ups in embedding tables that happen inside the block."""
    found: list[Lookup] = []
    handles = []
    for embedding in [module for module in net.modules() if isinstance(module, FieldEmbedding)]:
        for table in embedding.tables:

            def keep(
                module: nn.Module, inputs: tuple[Tensor], rows: Tensor, blocks: int = len(embedding.blocks)
            ) -> None:
                assert isinstance(module, nn.Embedding)
                found.append(Lookup(module, blocks, inputs[0].detach(), rows))

            handles.append(table.register_forward_hook(keep))
    try:
        yield found
    finally:
        for handle in handles:
            handle.remove()


def gradient_cosines(
    net: nn.Module, losses_T: Tensor, tasks: Sequence[str], lookups: Sequence[Lookup]
) -> dict[tuple[str, str], dict[str, float]]:
    """Return the cosine of the gradients of every two tasks; no ``grad`` of a parameter is touched.

    Args:
        net: the network that computed the losses.
        losses_T: one loss a task, still with their graph.
        tasks: their names.
        lookups: what ``record_lookups`` collected meanwhile.

    Returns:
        Two tasks -> part -> cosine: ``tables``, and ``experts``, which are all other weights that both tasks train
        (shared experts, a shared bottom). nan where nothing of a part is trained by both.
    """
    if len(tasks) < 2:
        return {}
    weights = _other_weights(net)
    wanted = [*(lookup.rows_BD for lookup in lookups), *weights]
    by_task = []
    for loss in losses_T:
        # the graph goes with the losses: their owner drops it
        grads = torch.autograd.grad(loss, wanted, retain_graph=True, allow_unused=True)
        found = grads[: len(lookups)]
        pieces = [piece for lookup, grad in zip(lookups, found, strict=True) for piece in lookup.pieces(grad)]
        by_task.append({"tables": tuple(pieces), "experts": grads[len(lookups) :]})
    return {
        (tasks[a], tasks[b]): {part: cosine(by_task[a][part], by_task[b][part]) for part in by_task[a]}
        for a, b in combinations(range(len(tasks)), 2)
    }


def _other_weights(net: nn.Module) -> list[nn.Parameter]:
    tables = {
        id(parameter)
        for module in net.modules()
        if isinstance(module, FieldEmbedding)
        for parameter in module.tables.parameters()
    }
    return [weight for weight in net.parameters() if weight.requires_grad and id(weight) not in tables]


def cosine(one: Piece, other: Piece) -> float:
    """Return the cosine of two gradients over the pieces that both reach; nan where there is none."""
    dot = first = second = 0.0
    for a, b in zip(one, other, strict=True):
        if a is None or b is None:
            continue
        x, y = a.double().flatten(), b.double().flatten()
        lengths = float(x @ x), float(y @ y)
        if all(lengths):
            dot, first, second = dot + float(x @ y), first + lengths[0], second + lengths[1]
    return dot / (first * second) ** 0.5 if first and second else float("nan")

"""Training steps with one gradient per task, combined on the shared parameters.

Legend: B samples, T tasks, U distinct rows of a table, W width of a row.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import torch
from pytorch_lightning.utilities import rank_zero_info
from torch import Tensor, distributed, nn

from stemlab.data.batch import ImpressionBatch
from stemlab.lightning.balancing.aggregation import GradientWeights, fill_shared
from stemlab.lightning.balancing.base import Balancing, GradientAggregator, mean_over_ranks, ranks
from stemlab.lightning.balancing.shared_parameters import TaskBlocks, tables_read_by_id, task_blocks
from stemlab.models.api import MultiTaskOutput
from stemlab.models.multitask.gradient_cosines import Lookup, record_lookups
from stemlab.nn.kernels.dispatch import static_shapes

TaskGradients = list[dict[int, Tensor]]
"""Task -> position of a tensor -> its gradient; tensors that a task does not train are missing."""


class GradientMethod(Balancing):
    """Combine the gradients of the tasks with weights that depend on their inner products.

    A shared parameter, which several tasks train, gets ``sum_t w_t g_t``; one that a single task trains gets the
    gradient of its task, times w_t for GradNorm. Each task has a backward pass of its own, which visits the parts of
    the network that the task trains. The gradients of embedding tables are compared on the rows of the batch. The
    penalties of the network and of the weights are added afterwards, unweighted.

    Args:
        tasks: task names.
        weights: the method.
        name: its name, for messages.
    """

    cosine_sum_P: Tensor

    def __init__(self, tasks: Sequence[str], weights: GradientWeights | GradientAggregator, name: str) -> None:
        super().__init__(tasks)
        self.weights, self.name = weights, name
        self.uncapturable = f"model.balancing={name} computes the weights of the tasks on the CPU"
        self._pairs = list(itertools.combinations(range(len(tasks)), 2))
        self.register_buffer("cosine_sum_P", torch.zeros(len(self._pairs), dtype=torch.float64))
        self._blocks: dict[int, TaskBlocks] | None = None
        self._by_rows: set[int] = set()
        self._lookups: list[Lookup] = []

    def watch(self, net: nn.Module, batch: ImpressionBatch) -> AbstractContextManager[object]:
        """Record the embedding lookups of the forward pass, if their rows can replace the tables."""
        return self._watch(net, batch)

    @contextmanager
    def _watch(self, net: nn.Module, batch: ImpressionBatch) -> Iterator[None]:
        self._lookups = []
        if self._blocks is None:
            self._blocks = task_blocks(net, batch, len(self.tasks))
            # other processes look up other rows, and on accelerators one operation reads all tables
            with_rows = ranks() == 1 and not static_shapes(batch.ids_BF)
            with_rows = with_rows and not isinstance(self.weights, GradientAggregator)  # it gets whole tables
            self._by_rows = tables_read_by_id(net, batch) if with_rows else set()
            if not any(len(own) > 1 for blocks in self._blocks.values() for own in blocks.blocks):
                rank_zero_info(
                    f"warning: no parameter is trained by two tasks: model.balancing={self.name} adds the losses up."
                )
        if not self._by_rows:
            yield
            return
        with record_lookups(net) as lookups:
            yield
        self._lookups = [lookup for lookup in lookups if id(lookup.table.weight) in self._by_rows]

    def loss(self, losses_T: Tensor, output: MultiTaskOutput, net: nn.Module) -> Tensor:
        """Return the sum of the losses, whose backward pass gives the combined gradients."""
        total = losses_T.detach().sum()
        if not torch.is_grad_enabled():
            return total
        lookups, self._lookups = [lookup for lookup in self._lookups if lookup.rows_BD.requires_grad], []
        tables = {id(lookup.table.weight) for lookup in lookups}
        others = [p for p in net.parameters() if p.requires_grad and id(p) not in tables]
        tensors = [*(lookup.rows_BD for lookup in lookups), *others]
        assert self._blocks is not None
        own = [self._blocks[id(p)] for p in (*(lookup.table.weight for lookup in lookups), *others)]
        # the backward pass does not belong under autocast
        with torch.autocast(losses_T.device.type, enabled=False):
            grads = _task_gradients(losses_T, output, tensors, own)
            with torch.no_grad():
                combined = self._combined(grads, tensors, lookups, own, losses_T)
        chosen = sorted(combined)
        given: Tensor = _Given.apply(total, [combined[i] for i in chosen], *(tensors[i] for i in chosen))  # type: ignore[no-untyped-call]
        return given

    def _combined(
        self,
        grads: TaskGradients,
        tensors: Sequence[Tensor],
        lookups: Sequence[Lookup],
        own: Sequence[TaskBlocks],
        losses_T: Tensor,
    ) -> dict[int, Tensor]:
        """Return position of a tensor -> its combined gradient."""
        shared = _shared(grads, tensors, lookups, own)
        if not isinstance(self.weights, GradientAggregator):
            return _combine(grads, own, self._weigh(shared, losses_T), self.weights.whole_network)
        self._count_cosines(_gramian(shared, losses_T.device).cpu())
        self.steps_1.add_(1)
        combined = _combine(grads, own, [0.0] * len(grads), whole_network=False)
        positions = _shared_positions(grads, own, 0)
        for i in positions:  # another process may have a gradient of it
            combined.setdefault(i, torch.zeros_like(tensors[i]))
        if positions:
            parts = [part for i in positions for part in own[i].shared(combined[i])]
            fill_shared(parts, shared, self.weights, losses_T)
        return combined

    def _weigh(self, shared: list[list[Tensor]], losses_T: Tensor) -> list[float]:
        gramian_TT = _gramian(shared, losses_T.device)
        if ranks() > 1:
            distributed.broadcast(gramian_TT, src=0)  # all processes compute the same weights, to the last bit
        gramian_TT, losses_T = gramian_TT.cpu(), mean_over_ranks(losses_T.detach()).double().cpu()
        if not torch.isfinite(gramian_TT).all():
            weight_T = torch.full_like(losses_T, float("nan"))  # reaches the weights of the network and is noticed
        elif gramian_TT.any():
            weight_T = self.weights(gramian_TT, losses_T)
        else:
            weight_T = torch.ones_like(losses_T)
        self.count(weight_T)
        self._count_cosines(gramian_TT)
        return [float(weight) for weight in weight_T]

    def _count_cosines(self, gramian_TT: Tensor) -> None:
        """Add the cosines of a step to the means of the epoch."""
        norm_T = gramian_TT.diagonal().sqrt()
        cosines = [gramian_TT[a, b] / (norm_T[a] * norm_T[b]).clamp(min=1e-300) for a, b in self._pairs]
        self.cosine_sum_P.add_(torch.stack(cosines).to(self.cosine_sum_P))

    def end_epoch(self) -> dict[str, Tensor]:
        """Return the mean weights, and the mean cosines of the shared gradients: ``gradient_cosine/<task>-<task>``."""
        cosines = (self.cosine_sum_P / self.steps_1).float().unbind()
        names = [f"gradient_cosine/{self.tasks[a]}-{self.tasks[b]}" for a, b in self._pairs]
        self.cosine_sum_P.zero_()
        weights = super().end_epoch()
        kept = {} if isinstance(self.weights, GradientAggregator) else weights
        return kept | dict(zip(names, cosines, strict=True))


class _Given(torch.autograd.Function):
    """A scalar with given gradients of the tensors: ``(value, gradients, *tensors) -> value``."""

    @staticmethod
    def forward(ctx: Any, value: Tensor, gradients: list[Tensor], *tensors: Tensor) -> Tensor:
        del tensors
        ctx.gradients = gradients
        return value.clone()

    @staticmethod
    def backward(ctx: Any, scale: Tensor) -> tuple[Tensor | None, ...]:
        gradients, ctx.gradients = ctx.gradients, None  # released, so that a parameter takes them without a copy
        factor = float(scale)  # 1 unless gradients are accumulated
        return (None, None, *(gradients if factor == 1 else torch._foreach_mul(gradients, factor)))


def _task_gradients(
    losses_T: Tensor, output: MultiTaskOutput, tensors: Sequence[Tensor], own: Sequence[TaskBlocks]
) -> TaskGradients:
    """Return the gradients of every task; each backward pass visits only what its task trains."""
    found: TaskGradients = []
    for task, loss in enumerate(losses_T.unbind()):
        trained = [i for i, blocks in enumerate(own) if task in blocks.tasks()]
        keep = output.penalty is not None or task + 1 < len(losses_T)
        heads, given = _heads(loss, output)
        grads = torch.autograd.grad(heads, [tensors[i] for i in trained], given, retain_graph=keep, allow_unused=True)
        found.append({i: grad for i, grad in zip(trained, grads, strict=True) if grad is not None})
    return found


def _heads(loss: Tensor, output: MultiTaskOutput) -> tuple[list[Tensor], list[Tensor | None]]:
    """Return the logits on which a loss depends, and its derivatives by them; the loss if logits are not separate."""
    if not output.logits:
        return [loss], [None]
    (grad_BT,) = torch.autograd.grad(loss, output.logit_BT, retain_graph=True)
    heads: list[Tensor] = []
    given: list[Tensor | None] = []
    for logit_B1, grad_B1 in zip(output.logits, torch.split(grad_BT, 1, dim=1), strict=True):
        if grad_B1.any():
            heads.append(logit_B1)
            given.append(grad_B1.to(logit_B1.dtype))
    # without any derivative the gradients are zeros
    return (heads, given) if heads else ([loss], [None])


def _shared(
    grads: TaskGradients, tensors: Sequence[Tensor], lookups: Sequence[Lookup], own: Sequence[TaskBlocks]
) -> list[list[Tensor]]:
    """Return for every task its gradients of the shared parts, in the same order; zeros where it has none."""
    found: list[list[Tensor]] = [[] for _ in grads]
    by_table: dict[int, list[int]] = {}
    for position, lookup in enumerate(lookups):
        by_table.setdefault(id(lookup.table), []).append(position)
    for positions in by_table.values():
        _add_rows(found, grads, [lookups[i] for i in positions], positions, own[positions[0]])
    for i in _shared_positions(grads, own, len(lookups)):
        for task, of_task in enumerate(grads):
            grad = of_task[i] if i in of_task else torch.zeros_like(tensors[i])
            found[task] += own[i].shared(grad.to_dense() if grad.is_sparse else grad)
    return found


def _shared_positions(grads: TaskGradients, own: Sequence[TaskBlocks], start: int) -> list[int]:
    """Return the positions, from ``start`` on, of the tensors that have shared parts."""
    several = [i for i in range(start, len(own)) if len(own[i].tasks()) > 1]
    return [i for i in several if ranks() > 1 or any(i in of_task for of_task in grads)]


def _add_rows(
    found: list[list[Tensor]], grads: TaskGradients, lookups: Sequence[Lookup], positions: list[int], own: TaskBlocks
) -> None:
    """Add the gradients of the shared blocks of one table, summed over equal rows."""
    width = sum(part.shape[-1] for part in own.shared(lookups[0].rows_BD))
    if not width:
        return
    ids = torch.cat([lookup.ids_B.reshape(-1) for lookup in lookups]).long()
    stacked = []  # all tasks in one sum: (N, T*W)
    for of_task in grads:
        pieces = [
            torch.zeros((lookup.ids_B.numel(), width), dtype=lookup.rows_BD.dtype, device=ids.device)
            if i not in of_task
            else torch.cat(own.shared(of_task[i].reshape(-1, of_task[i].shape[-1])), dim=1)
            for i, lookup in zip(positions, lookups, strict=True)
        ]
        stacked.append(torch.cat(pieces))
    grad_NX, table = torch.cat(stacked, dim=1), lookups[0].table
    if table.padding_idx is not None:
        grad_NX = grad_NX.masked_fill((ids == table.padding_idx)[:, None], 0)
    rows = table.num_embeddings
    if rows > len(ids):
        unique, ids = torch.unique(ids, return_inverse=True)
        rows = len(unique)
    sum_UX = grad_NX.new_zeros(rows, grad_NX.shape[1]).index_add_(0, ids, grad_NX)
    for parts, sum_UW in zip(found, torch.split(sum_UX, width, dim=1), strict=True):
        parts.append(sum_UW)


def _gramian(shared: list[list[Tensor]], device: torch.device) -> Tensor:
    """Return the inner products of the gradients of the tasks, (T, T) float64; of their means over the processes."""
    tasks = len(shared)
    if not shared[0]:
        return torch.zeros((tasks, tasks), dtype=torch.float64, device=device)
    if ranks() > 1:
        shared = [[mean_over_ranks(torch.cat([part.reshape(-1) for part in parts]))] for parts in shared]
    flat = [[part.reshape(-1) for part in parts] for parts in shared]
    upper = {
        (a, b): torch.stack([torch.dot(x, y) for x, y in zip(flat[a], flat[b], strict=True)]).double().sum()
        for a in range(tasks)
        for b in range(a, tasks)
    }
    return torch.stack([torch.stack([upper[min(a, b), max(a, b)] for b in range(tasks)]) for a in range(tasks)])


def _combine(
    grads: TaskGradients, own: Sequence[TaskBlocks], weights: Sequence[float], whole_network: bool
) -> dict[int, Tensor]:
    """Return position of a tensor -> its combined gradient."""
    combined: dict[int, Tensor] = {}
    for task, (of_task, weight) in enumerate(zip(grads, weights, strict=True)):
        scale: dict[TaskBlocks, Callable[[Tensor], Tensor]] = {}
        for i, grad in of_task.items():
            blocks = own[i]
            if blocks not in scale:
                scale[blocks] = _scaling(blocks, blocks.factors(task, weight), weight if whole_network else None)
            scaled = scale[blocks](grad)
            combined[i] = combined[i] + scaled if i in combined else scaled
    return combined


def _scaling(blocks: TaskBlocks, factors: list[float], whole: float | None) -> Callable[[Tensor], Tensor]:
    """Return a function that multiplies each block of a gradient by its factor."""
    if whole is not None:
        factors = [whole] * len(factors)
    if len(set(factors)) == 1:
        return lambda grad: grad if factors[0] == 1 else grad * factors[0]

    def scaled(grad: Tensor) -> Tensor:
        dim = blocks.dim % grad.ndim
        size = grad.shape[dim] // len(factors)
        vector = torch.tensor(factors, dtype=grad.dtype).repeat_interleave(size).to(grad.device)
        return grad * vector.view(-1, *[1] * (grad.ndim - 1 - dim))

    return scaled

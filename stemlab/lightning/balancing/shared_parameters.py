"""Which tasks train which parts of a network: the shared ones are those that several tasks train.

Decided by the autograd graph of the plain equations, not by the values of gradients: a fused kernel gives a gradient of
zeros where the plain equation has none.

Legend: B samples, T tasks.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields, replace
from typing import Any

import torch
from torch import Tensor, nn

from stemlab.data.batch import ImpressionBatch
from stemlab.models.api import MultiTaskOutput
from stemlab.models.multitask.base import TabularNet
from stemlab.nn.embedding import FieldEmbedding, field_embeddings
from stemlab.nn.kernels.dispatch import kernel_mode
from stemlab.nn.modes import evaluation_mode

Tasks = frozenset[int]


@dataclass(frozen=True, slots=True)
class TaskBlocks:
    """Which tasks train each of the equal blocks into which one dimension of a tensor is divided.

    Attributes:
        dim: the dimension; -1 for embedding tables, so that it is also that of looked-up rows.
        blocks: block -> tasks.
    """

    dim: int
    blocks: tuple[Tasks, ...]

    def tasks(self) -> Tasks:
        """Return the tasks that train some block."""
        return frozenset().union(*self.blocks)

    def shared(self, tensor: Tensor) -> list[Tensor]:
        """Return the parts of a tensor that several tasks train; the tensor itself if all do."""
        if all(len(tasks) > 1 for tasks in self.blocks):
            return [tensor]
        parts = tensor.chunk(len(self.blocks), dim=self.dim)
        return [part for part, tasks in zip(parts, self.blocks, strict=True) if len(tasks) > 1]

    def factors(self, task: int, weight: float) -> list[float]:
        """Return for each block the factor of a task's gradient: its weight if shared, 1 if its own, 0 otherwise."""
        return [(weight if len(tasks) > 1 else 1.0) if task in tasks else 0.0 for tasks in self.blocks]


def task_blocks(net: nn.Module, batch: ImpressionBatch, tasks: int) -> dict[int, TaskBlocks]:
    """Return ``id()`` of each trainable parameter -> the tasks that train its blocks.

    Runs one forward pass of a few samples in evaluation mode and one backward pass per task; network, gradients and
    random state do not change. The samples belong to different scenarios, so that the parts of all scenarios take part.
    A parameter without any gradient there counts as shared.

    Args:
        net: the network; a ``TabularNet`` names its parameters with one part per task (``task_dimensions``).
        batch: samples of a training step.
        tasks: T.
    """
    parameters = [p for p in net.parameters() if p.requires_grad]
    embeddings = [embedding for embedding in field_embeddings(net) if len(embedding.blocks) > 1]
    with _plain_equations(net), _block_inputs(embeddings) as read:
        output: MultiTaskOutput = net.forward(_few(batch, net))
        inputs = [block_BD for blocks in read.values() for block_BD in blocks]
        grads = [
            torch.autograd.grad(logit_B.sum(), [*inputs, *parameters], retain_graph=True, allow_unused=True)
            for logit_B in output.logits or output.logit_BT.unbind(dim=1)
        ]
    found = [_tasks_of(column) for column in zip(*grads, strict=True)]
    everyone = frozenset(range(tasks))
    owners = {id(p): own or everyone for p, own in zip(parameters, found[len(inputs) :], strict=True)}
    blocks = {key: TaskBlocks(0, (own,)) for key, own in owners.items()}
    of_inputs = iter(found[: len(inputs)])
    for embedding, used in read.items():
        blocks |= _blocks_of(embedding, tuple(next(of_inputs) for _ in used), owners)
    for name, dim in net.task_dimensions().items() if isinstance(net, TabularNet) else ():
        blocks[id(net.get_parameter(name))] = TaskBlocks(dim, tuple(frozenset({task}) for task in range(tasks)))
    return blocks


def tables_read_by_id(net: nn.Module, batch: ImpressionBatch) -> set[int]:
    """Return ``id()`` of the trainable tables of embeddings that a network reads by lookups only.

    Runs one forward pass as ``task_blocks`` does, in which lookups return constants: other reads give a gradient.
    """
    tables = [
        table
        for embedding in field_embeddings(net)
        for table in embedding.tables
        if isinstance(table, nn.Embedding) and table.weight.requires_grad
    ]
    handles = [table.register_forward_hook(lambda module, ids, rows: rows.detach()) for table in tables]
    try:
        with _plain_equations(net):
            total = net.forward(_few(batch, net)).logit_BT.sum()
            weights = [table.weight for table in tables]
            if not total.requires_grad:
                return {id(weight) for weight in weights}
            grads = torch.autograd.grad(total, weights, allow_unused=True)
    finally:
        for handle in handles:
            handle.remove()
    return {id(weight) for weight, grad in zip(weights, grads, strict=True) if grad is None}


@contextmanager
def _plain_equations(net: nn.Module) -> Iterator[None]:
    """Evaluate a network without kernels inside the ``with`` block; modes and random state are restored."""
    with evaluation_mode(net), torch.random.fork_rng(devices=[]), torch.enable_grad(), kernel_mode("off"):
        yield


def _tasks_of(grads: Sequence[Tensor | None]) -> Tasks:
    return frozenset(task for task, grad in enumerate(grads) if grad is not None)


def _few(batch: ImpressionBatch, net: nn.Module) -> ImpressionBatch:
    """Return a few samples, one per scenario at least."""
    scenarios = len(getattr(net, "scenarios", ()))
    rows = torch.arange(max(2, scenarios), device=batch.ids_BF.device)
    given = {f.name: getattr(batch, f.name) for f in fields(batch)}
    chosen = {name: value[rows % len(batch)] for name, value in given.items() if isinstance(value, Tensor)}
    if scenarios and batch.scenario_B is not None:
        chosen["scenario_B"] = (rows % scenarios).to(batch.scenario_B.dtype)
    return replace(batch, **chosen)


@contextmanager
def _block_inputs(embeddings: Sequence[FieldEmbedding]) -> Iterator[dict[FieldEmbedding, list[Tensor]]]:
    """Collect the outputs of embeddings, one per block, inside the ``with`` block; of the last call of each."""
    read: dict[FieldEmbedding, list[Tensor]] = {}

    def keep(module: nn.Module, inputs: Any, outputs: list[Tensor]) -> None:
        del inputs
        assert isinstance(module, FieldEmbedding)
        read[module] = outputs

    handles = [embedding.register_forward_hook(keep) for embedding in embeddings]
    try:
        yield read
    finally:
        for handle in handles:
            handle.remove()


def _blocks_of(embedding: FieldEmbedding, own: tuple[Tasks, ...], owners: Mapping[int, Tasks]) -> dict[int, TaskBlocks]:
    """Return the blocks of the tables and of the projection of an embedding, from the tasks that train its outputs."""
    projected = () if embedding.projections is None else tuple(embedding.projections)
    tables = [weight for n, weight in enumerate(embedding.weights()) if str(n) not in projected]
    found = {id(weight): TaskBlocks(-1, own) for weight in tables}
    for layer in (embedding.numerical, embedding.projections):
        if layer is not None:
            found |= {id(weight): TaskBlocks(0, own) for weight in layer.parameters()}
    # a table that is also read otherwise is trained by more tasks than its outputs: all of it counts as shared
    return {key: blocks for key, blocks in found.items() if key in owners and owners[key] == blocks.tasks()}

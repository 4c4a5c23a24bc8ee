"""Train models in two ranks with half the batch size and in one process, on the same samples, and compare the losses.

All models run in one pair of processes, so that the comparison of all of them costs a few seconds.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from pytorch_lightning import seed_everything
from torch import Tensor, distributed, nn
from torch.nn.parallel import DistributedDataParallel

from stemlab.lightning.batch_share import set_batch_share
from stemlab.lightning.multitask import MultiTaskModule
from stemlab.lightning.unused_parameters import has_unused_parameters
from stemlab.nn.global_batch import BatchShare
from stemlab.nn.kernels.dispatch import device_forms
from stemlab.nn.row_embedding import row_tables, row_weight_names
from stemlab.nn.sharded.id_tables import rows_of_table
from stemlab.nn.sharded.network import exchange_of, shard_tables, sharded_weights
from stemlab.optim.sharded import ShardedNorm
from stemlab.runs.build import build_datamodule, build_module
from stemlab.runs.table_plan import plan_tables
from tests.ranks import run_ranks

Config = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Job:
    """A training.

    Attributes:
        config: a composed config; its batch size is that of all ranks together.
        directory: the prepared dataset.
        steps: number of steps.
        device_forms: use the forms of the equations for accelerators.
        embedding: ``trainer.embedding`` of the two ranks.
        clip: clip the gradients.
        evaluate: score the validation samples after the last step (sequential models).
    """

    config: Config
    directory: Path
    steps: int
    device_forms: bool = False
    embedding: str = "replicated"
    clip: bool = False
    evaluate: bool = False


class Step(nn.Module):
    """The loss of a module, as a network for ``DistributedDataParallel``."""

    def __init__(self, module: Any, forms: bool) -> None:
        super().__init__()
        self.context = device_forms if forms else nullcontext
        self.module = module

    def forward(self, batch: Any) -> Tensor:
        with self.context():
            loss: Tensor = self.module.losses(batch)[0]
        return loss


def train(job: Job, ranks: int = 1) -> list[float]:
    """Return the loss of each step, the mean over the ranks.

    Args:
        job: the training.
        ranks: world size; with several, the process group is initialised.
    """
    dataset = job.config["dataset"]
    config = job.config | {"dataset": dataset | {"batch_size": dataset["batch_size"] // ranks}}
    data = build_datamodule(config)
    data.adopt(job.directory)
    seed_everything(0, verbose=False)
    module = build_module(config, data)
    step: nn.Module = Step(module, job.device_forms)
    if ranks > 1:
        set_batch_share(module, BatchShare.current())
        unused = has_unused_parameters(module.net, module.sizes if isinstance(module, MultiTaskModule) else None)
        divide_tables(step, module.net, config, job.embedding)
        by_rows = row_weight_names(step)  # as in RankStrategy
        if by_rows:
            DistributedDataParallel._set_params_and_buffers_to_ignore_for_model(step, by_rows)
        ignored = {*by_rows, *(f"module.net.{name}" for name, _ in parts_of_tables(module.net))}
        if {name for name, weight in step.named_parameters() if weight.requires_grad} - ignored:
            step = DistributedDataParallel(step, find_unused_parameters=unused, gradient_as_bucket_view=True)
    optimizer, losses = module.configure_optimizers(), []
    if exchange_of(module.net) is not None:
        optimizer.sharded_norm = ShardedNorm([weight for _, weight in parts_of_tables(module.net)])
    step.train()
    module.on_train_epoch_start()
    for batch in islice(data.train_dataloader(), job.steps):
        optimizer.zero_grad()
        loss = step(batch)
        loss.backward()
        if job.clip:
            module.clip(optimizer)
        optimizer.step()
        total = loss.detach().double()
        if ranks > 1:
            distributed.all_reduce(total)
        losses.append(float(total) / ranks)
    assert len(losses) == job.steps
    return losses + (scores_of_evaluation(module, data) if job.evaluate else [])


def scores_of_evaluation(module: Any, data: Any) -> list[float]:
    """Return the mean score and square of the validation samples, and the mean of each whole table."""
    module.eval()
    module.on_validation_epoch_start()
    scores = torch.cat([module(batch) for batch in data.val_dataloader()]).double()
    sums = torch.tensor([scores.sum(), scores.square().sum(), scores.numel()])
    if distributed.is_initialized():
        distributed.all_reduce(sums)
    tables = [rows_of_table(table).detach().mean() for table in row_tables(module.net).values()]
    module._end_evaluation()
    return [*(sums[:2] / sums[2]).tolist(), *map(float, tables)]


def divide_tables(step: nn.Module, net: nn.Module, config: Config, embedding: str) -> None:
    """Divide the embedding tables of a network among the ranks, and keep them out of DDP."""
    plan = plan_tables(config | {"trainer": config["trainer"] | {"devices": 2, "embedding": embedding}}, net)
    if plan is not None:
        shard_tables(net, plan.chosen, plan.layout(distributed.get_rank(), 2), distributed.new_group())
        names = [f"module.net.{name}" for name, _, _ in sharded_weights(net)]
        DistributedDataParallel._set_params_and_buffers_to_ignore_for_model(step, names)


def parts_of_tables(net: nn.Module) -> list[tuple[str, nn.Parameter]]:
    """Return names and weights of the tables of which this rank holds a part."""
    return [(name, tables.tables[position].weight) for name, tables, position in sharded_weights(net)]


def _in_rank(rank: int, jobs: Mapping[str, Job]) -> dict[str, list[float]]:
    del rank
    return {name: train(job, ranks=2) for name, job in jobs.items()}


def largest_differences(jobs: Mapping[str, Job]) -> dict[str, float]:
    """Return name -> largest difference of the losses of a step between two ranks and one process."""
    both = run_ranks(_in_rank, jobs)
    assert both[0] == both[1]
    return {name: max(abs(a - b) for a, b in zip(train(job), both[0][name], strict=True)) for name, job in jobs.items()}

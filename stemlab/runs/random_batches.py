"""Batches of random samples with the shapes of a dataset: to estimate activations and to time training steps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from stemlab.data.batch import ImpressionBatch, SequenceBatch
from stemlab.data.list_layout import list_columns, values_of
from stemlab.data.spec import DatasetSpec, Field, SequenceSizes
from stemlab.models.sequential.base import SequenceNet
from stemlab.runs.build import build_net

_ROWS, _SAMPLES = 32, 16


def random_batch(sizes: DatasetSpec | SequenceSizes, samples: int, negatives: int) -> ImpressionBatch | SequenceBatch:
    """Return a training batch of random samples; histories have the largest length.

    Args:
        sizes: spec of the dataset, or sizes of a dataset of sequences.
        samples: number of samples.
        negatives: negatives per sample of a dataset of sequences.
    """
    if isinstance(sizes, SequenceSizes):
        history = torch.randint(1, sizes.items + 1, (samples, sizes.history_max))
        return SequenceBatch(
            user_B=torch.randint(1, sizes.users + 1, (samples,)),
            history_BL=history,
            length_B=torch.full((samples,), sizes.history_max),
            candidates_BN=torch.randint(1, sizes.items + 1, (samples, 1 + negatives)),
            time_BL=torch.arange(sizes.history_max).expand(samples, -1) * 60,
            unit_B=torch.full((samples,), 60),
        )
    list_ids_BK, list_weights_BW = _random_lists(sizes.lists, samples)
    ids = [torch.randint(0, rows, (samples,), dtype=torch.int32) for rows in sizes.field_sizes.values()]
    tasks, values = len(sizes.tasks), len(sizes.regression_tasks)
    return ImpressionBatch(
        ids_BF=torch.stack(ids, dim=1),
        labels_BT=torch.randint(0, 2, (samples, tasks), dtype=torch.int8),
        values_BV=torch.rand(samples, values) if values else None,
        mask_BT=torch.randint(0, 2, (samples, tasks), dtype=torch.int8) if sizes.conditional_tasks else None,
        weight_B=torch.rand(samples) if sizes.weight is not None else None,
        dense_BN=torch.rand(samples, len(sizes.numericals)) if sizes.numericals else None,
        scenario_B=torch.randint(0, len(sizes.scenarios), (samples,), dtype=torch.int32) if sizes.scenarios else None,
        list_ids_BK=list_ids_BK,
        list_weights_BW=list_weights_BW,
    )


def _random_lists(lists: Sequence[Field], samples: int) -> tuple[Tensor | None, Tensor | None]:
    """Return lists of the largest length, and their weights."""
    columns, (K, W) = list_columns(lists)
    if not lists:
        return None, None
    ids_BK = torch.zeros((samples, K), dtype=torch.int32)
    for field, own in zip(lists, columns, strict=True):
        ids_BK[:, own.ids] = torch.randint(1, field.size, (samples, values_of(field).max_length), dtype=torch.int32)
    return ids_BK, torch.rand(samples, W) if W else None


def activation_bytes(config: Mapping[str, Any], sizes: DatasetSpec | SequenceSizes) -> int:
    """Estimate the bytes that the forward pass of a training step keeps for the backward pass, on each rank.

    They are counted on the plain network with small embedding tables and few samples, and are proportional to the batch
    size. A network compiled or executed by fused kernels keeps less.

    Args:
        config: validated, plain config of a training.
        sizes: spec of the dataset, or sizes of a dataset of sequences.
    """
    if isinstance(sizes, DatasetSpec):
        small: DatasetSpec | SequenceSizes = replace(
            sizes, fields=tuple(replace(field, size=min(field.size, _ROWS)) for field in sizes.fields)
        )
    else:
        small = replace(sizes, users=min(sizes.users, _ROWS), items=min(sizes.items, _ROWS))
    with torch.random.fork_rng(devices=[]):
        net = build_net(config, small).train()
        batch = random_batch(small, _SAMPLES, int(config["dataset"].get("num_negatives", 1)))
        if isinstance(net, SequenceNet) and isinstance(batch, SequenceBatch):
            net.observe(batch.user_B, batch.candidates_BN[:, 0])
        kept = _kept_for_backward(net, batch)
    return kept * int(config["dataset"]["batch_size"]) // _SAMPLES


def _kept_for_backward(net: nn.Module, batch: ImpressionBatch | SequenceBatch) -> int:
    parameters = {tensor.untyped_storage().data_ptr() for tensor in (*net.parameters(), *net.buffers())}
    kept: dict[int, Tensor] = {}  # the tensors stay alive, so that no address is used twice

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in parameters and tensor.layout == torch.strided:
            kept[storage.data_ptr()] = tensor
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        if isinstance(net, SequenceNet):
            net.losses(net(batch, "train"))
        else:
            net(batch)
    return sum(tensor.untyped_storage().nbytes() for tensor in kept.values())

"""Detect parameters that get no gradient from the loss; decides ``find_unused_parameters`` of DDP.

Example: the output of STEM's last shared gate is not used (docs/methods/stem.md#shared-gate). DDP waits forever for the
gradient of such a parameter unless ``find_unused_parameters`` is set, which costs a graph traversal per step. Networks
without unused parameters do not pay that cost.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

import torch
from torch import Tensor, nn

from stemlab.data.batch import ImpressionBatch, SequenceBatch
from stemlab.data.list_layout import list_columns
from stemlab.data.spec import ImpressionSizes
from stemlab.models.sequential.base import SequenceNet
from stemlab.nn.modes import evaluation_mode


def has_unused_parameters(net: nn.Module, sizes: ImpressionSizes | None = None) -> bool:
    """Return whether some trainable parameter gets no gradient from the loss.

    Runs one forward and backward pass on a dummy batch of two samples in eval mode, so that random number generators
    and running statistics do not change. Both samples belong to the first scenario, because a real batch may lack
    samples of the others.

    Args:
        net: the network.
        sizes: sizes of its dataset; ``None`` if it reads categorical fields only.
    """
    parameters = [p for p in net.parameters() if p.requires_grad]
    if not parameters:  # POP
        return False
    with evaluation_mode(net), torch.random.fork_rng(devices=[]):
        outcome = _sequential_loss(net) if isinstance(net, SequenceNet) else _sum_of_logits(net, sizes)
        gradients = torch.autograd.grad(outcome, parameters, allow_unused=True)
    return any(gradient is None for gradient in gradients)


def _sum_of_logits(net: nn.Module, sizes: ImpressionSizes | None) -> Tensor:
    """Return the sum of the logits of two padding samples."""
    logit_BT: Tensor = net(padding_samples(net, sizes)).logit_BT
    return logit_BT.sum()


def padding_samples(net: nn.Module, sizes: ImpressionSizes | None) -> ImpressionBatch:
    """Return a batch of two padding samples of the first scenario, without labels.

    Args:
        net: the network.
        sizes: sizes of its dataset; ``None`` if it reads categorical fields only.
    """
    tables = cast(Mapping[str, Any], net.embedding_tables())  # type: ignore[operator]
    sizes = sizes or ImpressionSizes(dict.fromkeys(tables, 1))
    batch = ImpressionBatch(torch.zeros((2, len(sizes.fields)), dtype=torch.int64))
    if sizes.numericals:
        batch.dense_BN = torch.zeros((2, len(sizes.numericals)))
    if sizes.lists:
        _, (ids, weights) = list_columns(sizes.lists)
        batch.list_ids_BK = torch.zeros((2, ids), dtype=torch.int32)
        batch.list_weights_BW = torch.zeros((2, weights)) if weights else None
    if sizes.scenarios:
        batch.scenario_B = torch.zeros(2, dtype=torch.int32)
    return batch


def _sequential_loss(net: SequenceNet) -> Tensor:
    """Return the loss of two samples with one item in their history."""
    ones_B = torch.ones(2, dtype=torch.int64)
    batch = SequenceBatch(
        user_B=ones_B,
        history_BL=ones_B[:, None],
        length_B=ones_B,
        candidates_BN=ones_B[:, None].expand(2, 2),
        time_BL=ones_B[:, None],
        unit_B=ones_B,
    )
    return torch.stack(list(net.losses(net(batch, "train")).values())).sum()

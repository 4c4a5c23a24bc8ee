"""Parameters that no loss reaches.

STEM's last shared gate is computed and not consumed (spec section 2, property 2). DistributedDataParallel waits for
the gradients of such parameters for ever unless it is told to look for them, which costs a walk over the graph a step;
networks without them are spared that.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

import torch
from torch import Tensor, nn

from stemlab.data.batch import ImpressionBatch, SequenceBatch
from stemlab.data.spec import ImpressionSizes
from stemlab.models.sequential.base import SequenceNet


def has_unused_parameters(net: nn.Module, sizes: ImpressionSizes | None = None) -> bool:
    """Return whether some trainable parameter gets no gradient from the loss.

    Asked on two rows, in evaluation mode: neither random numbers nor running statistics move. Both rows are of the
    first scenario, because a process may well get a batch without rows of the others.

    Args:
        net: the network.
        sizes: of the dataset that it was built for; ``None`` where it reads categorical fields only.
    """
    parameters = [p for p in net.parameters() if p.requires_grad]
    training = net.training
    net.eval()
    try:
        with torch.random.fork_rng(devices=[]):
            outcome = _sequential_loss(net) if isinstance(net, SequenceNet) else _sum_of_logits(net, sizes)
        gradients = torch.autograd.grad(outcome, parameters, allow_unused=True)
    finally:
        net.train(training)
    return any(gradient is None for gradient in gradients)


def _sum_of_logits(net: nn.Module, sizes: ImpressionSizes | None) -> Tensor:
    """Of rows of padding."""
    tables = cast(Mapping[str, Any], net.embedding_tables())  # type: ignore[operator]
    known = sizes or ImpressionSizes(dict.fromkeys(tables, 1))
    batch = ImpressionBatch(torch.zeros((2, len(known.fields)), dtype=torch.int64))
    if known.numericals:
        batch.dense_BN = torch.zeros((2, len(known.numericals)))
    if known.scenarios:
        batch.scenario_B = torch.zeros(2, dtype=torch.int32)
    logit_BT: Tensor = net(batch).logit_BT
    return logit_BT.sum()


def _sequential_loss(net: SequenceNet) -> Tensor:
    """Of histories of one item."""
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

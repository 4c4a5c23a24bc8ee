"""Parameters that no task loss reaches.

STEM's last shared gate is computed and not consumed (spec section 2, property 2). DistributedDataParallel waits for
the gradients of such parameters for ever unless it is told to look for them, which costs a walk over the graph a step;
networks without them are spared that.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

import torch
from torch import nn

from stemlab.data.batch import ImpressionBatch


def has_idle_parameters(net: nn.Module) -> bool:
    """Return whether some trainable parameter gets no gradient from the sum of all logits.

    Asked on two rows of padding, in evaluation mode: neither random numbers nor running statistics move.
    """
    parameters = [p for p in net.parameters() if p.requires_grad]
    fields = len(cast(Mapping[str, Any], net.embedding_tables()))  # type: ignore[operator]
    training = net.training
    net.eval()
    try:
        logit_BT = net(ImpressionBatch(torch.zeros((2, fields), dtype=torch.int64))).logit_BT
        gradients = torch.autograd.grad(logit_BT.sum(), parameters, allow_unused=True)
    finally:
        net.train(training)
    return any(gradient is None for gradient in gradients)

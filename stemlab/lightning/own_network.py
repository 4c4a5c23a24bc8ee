"""Explanation of a failed training of the user's own network, whose exception does not name it."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from stemlab.data.spec import ImpressionSizes
from stemlab.lightning.unused_parameters import padding_samples
from stemlab.models.api import MultiTaskOutput


def wrong_output(net: nn.Module, sizes: ImpressionSizes, tasks: Sequence[str]) -> str | None:
    """Return what is wrong with the output of a multi-task network for two padding samples, or None.

    Args:
        net: the network; its state may change, so do not use it afterwards.
        sizes: sizes of its dataset.
        tasks: trained tasks.
    """
    name, batch = type(net).__name__, padding_samples(net.cpu().eval(), sizes)
    try:
        with torch.no_grad():
            output = net.forward(batch)
    except Exception as error:
        return f"the forward pass of {name} fails: {type(error).__name__}: {error}"
    if not isinstance(output, MultiTaskOutput):
        return f"{name}.forward returned {type(output).__name__}, not a MultiTaskOutput of stemlab.models.api"
    shape, wanted = tuple(output.logit_BT.shape), (len(batch), len(tasks))
    if shape == wanted:
        return None
    return f"{name} returned logits of shape {shape} for {wanted[0]} samples and {wanted[1]} tasks, not {wanted}"

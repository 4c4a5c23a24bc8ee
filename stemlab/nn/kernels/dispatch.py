"""Where a block is one autograd node with a backward pass of its own, instead of a chain of torch's modules."""

from __future__ import annotations

import torch
from torch import Tensor

DTYPES = (torch.float32, torch.float64)


def one_node(*tensors: Tensor) -> bool:
    """Return whether to: on the processor, in full precision and where there is something to compute."""
    if torch.is_autocast_enabled("cpu") or torch.compiler.is_compiling():
        return False
    return all(t.device.type == "cpu" and t.dtype in DTYPES and t.numel() > 0 for t in tensors)

"""Precision of losses and statistics."""

from __future__ import annotations

import torch
from torch import Tensor


def at_least_float32(value: Tensor) -> Tensor:
    """Return a tensor in float32, or unchanged in float64."""
    return value if value.dtype == torch.float64 else value.float()

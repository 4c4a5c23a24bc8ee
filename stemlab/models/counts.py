"""Number of parameters of a network."""

from __future__ import annotations

from torch import nn


def parameter_counts(net: nn.Module) -> dict[str, int]:
    """Return ``{"dense": ..., "embedding": ...}``: trainable parameters outside and inside embedding tables."""
    tables = {id(m.weight) for m in net.modules() if isinstance(m, nn.Embedding)}
    sizes = {"dense": 0, "embedding": 0}
    for parameter in net.parameters():
        if parameter.requires_grad:
            sizes["embedding" if id(parameter) in tables else "dense"] += parameter.numel()
    return sizes

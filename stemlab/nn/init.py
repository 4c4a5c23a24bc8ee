"""The published initial distributions (spec/stem.md section 3)."""

from __future__ import annotations

import torch
from torch import nn

EMBEDDING_STD = 1e-4


@torch.no_grad()
def initialise(net: nn.Module) -> None:
    """Draw embeddings from N(0, 1e-4) with a zero padding row, linear weights Xavier-normal, biases zero; in place."""
    for module in net.modules():
        if isinstance(module, nn.Embedding):
            nn.init.normal_(module.weight, std=EMBEDDING_STD)
            if module.padding_idx is not None:
                module.weight[module.padding_idx].zero_()
        elif isinstance(module, nn.Linear):
            nn.init.xavier_normal_(module.weight)
            nn.init.zeros_(module.bias)

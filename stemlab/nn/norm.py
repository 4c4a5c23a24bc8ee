"""Batch normalisation of a part that sees only some rows of a batch, such as one scenario's."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional


class SubsetBatchNorm(nn.Module):
    """Batch normalisation (R, H) -> (R, H) for any number of rows, none included.

    In training, with fewer than two rows there is no variance: the running statistics are used, and stay. State and
    momentum are those of ``torch.nn.BatchNorm1d``; it is none, so that synchronised batch norm leaves it alone (the
    processes' counts of such rows may add up to one).

    Args:
        width: H.
        eps: added to the variance.
        momentum: of the running statistics.
    """

    running_mean: Tensor
    running_var: Tensor
    num_batches_tracked: Tensor

    def __init__(self, width: int, eps: float = 1e-5, momentum: float = 0.1) -> None:
        super().__init__()
        self.eps, self.momentum = eps, momentum
        self.weight, self.bias = nn.Parameter(torch.ones(width)), nn.Parameter(torch.zeros(width))
        self.register_buffer("running_mean", torch.zeros(width))
        self.register_buffer("running_var", torch.ones(width))
        self.register_buffer("num_batches_tracked", torch.tensor(0))

    def forward(self, input_RH: Tensor) -> Tensor:
        """Normalise, then scale and shift."""
        return self.normalise(input_RH, self.weight, self.bias)

    def normalise(self, input_RH: Tensor, scale_H: Tensor, shift_H: Tensor) -> Tensor:
        """Normalise, then scale and shift by what is given."""
        batch = self.training and input_RH.shape[0] > 1
        if batch:
            self.num_batches_tracked.add_(1)
        mean_H, var_H = self.running_mean, self.running_var
        return functional.batch_norm(input_RH, mean_H, var_H, scale_H, shift_H, batch, self.momentum, self.eps)

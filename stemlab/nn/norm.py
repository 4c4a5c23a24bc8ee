"""Batch normalisation of a module that sees a subset of the batch, such as the samples of one scenario."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional


class SubsetBatchNorm(nn.Module):
    """Batch normalisation (R, H) -> (R, H) for any number R of samples, including zero.

    In training with fewer than two samples, it uses the running statistics and does not update them. State and momentum
    are those of ``torch.nn.BatchNorm1d``. It is not a subclass of BatchNorm, so ``convert_sync_batchnorm`` does not
    replace it (synchronised batch norm fails if all ranks together have one sample).

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
        """Normalise, then scale and shift by the given vectors."""
        batch = self.training and input_RH.shape[0] > 1
        if batch:
            self.num_batches_tracked.add_(1)
        mean_H, var_H = self.running_mean, self.running_var
        return functional.batch_norm(input_RH, mean_H, var_H, scale_H, shift_H, batch, self.momentum, self.eps)

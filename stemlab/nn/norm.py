"""Batch normalisation over the samples of all processes, and of subsets such as the samples of one scenario.

Legend: R samples, H width, X further dimensions.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.modules.batchnorm import _BatchNorm

from stemlab.nn.global_batch import BatchShare, rows_of_all_processes
from stemlab.nn.precision import at_least_float32


def global_moments(input_RHX: Tensor, share: BatchShare) -> tuple[Tensor, Tensor, Tensor]:
    """Return the number of values per channel () and their mean and biased variance (H,) over all processes.

    Float64; zeros if no process has values. One all-reduce; differentiable twice.

    Args:
        input_RHX: float32 or float64 input of this process; R may be 0.
        share: the share of this process.
    """
    dims = [dim for dim in range(input_RHX.ndim) if dim != 1]
    count = input_RHX.numel() // max(input_RHX.shape[1], 1)
    shape = [1, -1, *[1] * (input_RHX.ndim - 2)]
    mean_H = input_RHX.sum(dims) / max(count, 1)
    square_H = (input_RHX - mean_H.view(shape)).square().sum(dims)
    total, mean_H, var_H = merge_moments(mean_H.new_full((1,), count), mean_H, square_H / max(count, 1), share)
    return total[0], mean_H, var_H


def merge_moments(
    count_S1: Tensor, mean_SH: Tensor, var_SH: Tensor, share: BatchShare
) -> tuple[Tensor, Tensor, Tensor]:
    """Return count (..., 1), mean and biased variance (..., H) over all processes, float64, from those of each process.

    The variance is the mean of the variances, plus the variance of the means: differences of large squares would lose
    digits, in the gradient as well.
    """
    own_SX = torch.cat([count_S1, mean_SH, count_S1 * var_SH], dim=-1).double()
    width = mean_SH.shape[-1]
    all_WSX = rows_of_all_processes(own_SX.unsqueeze(0), share.rank, share.processes)
    count_WS1, mean_WSH, square_WSH = torch.split(all_WSX, [1, width, width], dim=-1)
    total_S1 = count_WS1.sum(dim=0)
    least_one_S1 = total_S1.clamp_min(1)
    mean_SH = (count_WS1 * mean_WSH).sum(dim=0) / least_one_S1
    var_SH = (square_WSH + count_WS1 * (mean_WSH - mean_SH).square()).sum(dim=0) / least_one_S1
    return total_S1, mean_SH, var_SH


def _apply(
    input_RHX: Tensor, mean_H: Tensor, var_H: Tensor, affine: tuple[Tensor | None, Tensor | None], eps: float
) -> Tensor:
    shape = [1, -1, *[1] * (input_RHX.ndim - 2)]
    scale_H, shift_H = affine
    inverse_H = (var_H + eps).rsqrt().to(input_RHX.dtype)
    output_RHX = (input_RHX - mean_H.to(input_RHX.dtype).view(shape)) * inverse_H.view(shape)
    if scale_H is not None:
        output_RHX = output_RHX * scale_H.view(shape)
    return output_RHX if shift_H is None else output_RHX + shift_H.view(shape)


@torch.no_grad()
def _update(running_H: Tensor, value_H: Tensor, momentum: float | Tensor, enough: Tensor) -> None:
    """Move running statistics towards the values of a batch in place, if it has enough samples."""
    moved_H = running_H + momentum * (value_H.to(running_H.dtype) - running_H)
    running_H.copy_(torch.where(enough, moved_H, running_H))


class GlobalBatchNorm(_BatchNorm):
    """Batch normalisation whose statistics in training are those of the samples of all processes.

    For any device and process group, unlike ``torch.nn.SyncBatchNorm``, which needs a GPU. Without ``batch_share`` it
    is the layer of ``torch.nn`` that it derives from.
    """

    batch_share: BatchShare | None = None

    def forward(self, input_RHX: Tensor) -> Tensor:
        """Normalise, then scale and shift."""
        if self.batch_share is None or not self.training:
            return super().forward(input_RHX)
        self._check_input_dim(input_RHX)  # type: ignore[no-untyped-call]
        wide_RHX = at_least_float32(input_RHX)
        total, mean_H, var_H = global_moments(wide_RHX, self.batch_share)
        if self.track_running_stats and self.running_mean is not None and self.running_var is not None:
            assert self.num_batches_tracked is not None
            self.num_batches_tracked.add_(1)
            momentum = 1 / self.num_batches_tracked if self.momentum is None else self.momentum
            _update(self.running_mean, mean_H, momentum, total > 1)
            _update(self.running_var, var_H * (total / (total - 1)), momentum, total > 1)
        return _apply(wide_RHX, mean_H, var_H, (self.weight, self.bias), self.eps).to(input_RHX.dtype)


class GlobalBatchNorm1d(GlobalBatchNorm, nn.BatchNorm1d):
    """``torch.nn.BatchNorm1d`` over all processes."""


class GlobalBatchNorm2d(GlobalBatchNorm, nn.BatchNorm2d):
    """``torch.nn.BatchNorm2d`` over all processes."""


class GlobalBatchNorm3d(GlobalBatchNorm, nn.BatchNorm3d):
    """``torch.nn.BatchNorm3d`` over all processes."""


class SubsetBatchNorm(nn.Module):
    """Batch normalisation (R, H) -> (R, H) for any number R of samples, including zero.

    In training with fewer than two samples (of all processes together), it uses the running statistics and does not
    update them. State and momentum are those of ``torch.nn.BatchNorm1d``.

    Args:
        width: H.
        eps: added to the variance.
        momentum: of the running statistics.
    """

    batch_share: BatchShare | None = None
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
        if self.training and self.batch_share is not None:
            return self._normalise_globally(input_RH, scale_H, shift_H)
        batch = self.training and input_RH.shape[0] > 1
        if batch:
            self.num_batches_tracked.add_(1)
        mean_H, var_H = self.running_mean, self.running_var
        return functional.batch_norm(input_RH, mean_H, var_H, scale_H, shift_H, batch, self.momentum, self.eps)

    def _normalise_globally(self, input_RH: Tensor, scale_H: Tensor, shift_H: Tensor) -> Tensor:
        """Normalise by the statistics of all processes; without a branch on the number of samples, a GPU value."""
        wide_RH = at_least_float32(input_RH)
        assert self.batch_share is not None
        total, mean_H, var_H = global_moments(wide_RH, self.batch_share)
        enough = total > 1
        # copies: the running statistics change below, and the backward pass may read the values of this step
        used_mean_H = torch.where(enough, mean_H, self.running_mean.double())
        used_var_H = torch.where(enough, var_H, self.running_var.double())
        self.num_batches_tracked.add_(enough)
        _update(self.running_mean, mean_H, self.momentum, enough)
        _update(self.running_var, var_H * (total / (total - 1)), self.momentum, enough)
        return _apply(wide_RH, used_mean_H, used_var_H, (scale_H, shift_H), self.eps).to(input_RH.dtype)


class FixedNorm(nn.Module):
    """Batch normalisation whose statistics are always mean 0 and variance 1: scale * x / sqrt(1 + eps) + shift.

    TensorFlow's layer computes this in training, too, if its flag ``training`` is not set: its running statistics then
    keep their initial values.

    Args:
        width: H.
        eps: added to the variance.
    """

    def __init__(self, width: int, eps: float = 1e-3) -> None:
        super().__init__()
        self.eps = eps
        self.weight, self.bias = nn.Parameter(torch.ones(width)), nn.Parameter(torch.zeros(width))

    def forward(self, input_RH: Tensor) -> Tensor:
        """Scale and shift (R, H)."""
        output_RH: Tensor = input_RH * (self.weight * (1 + self.eps) ** -0.5) + self.bias
        return output_RH

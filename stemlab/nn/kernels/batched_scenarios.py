"""Layers with weights per scenario in static shapes, for accelerators.

A CUDA graph cannot split a batch by scenario, because the sizes of the parts depend on the values. Here one matrix
product applies the weights of all scenarios to all samples, and each sample keeps the outputs of its own scenario.
Values and gradients equal those of the split to rounding (docs/methods/kernels.md#static-shapes).

Legend: B samples, S scenarios, I input width, O output width, H width.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

from stemlab.nn.norm import SubsetBatchNorm, merge_moments


def own_scenario(scenario_B: Tensor, scenarios: int) -> Tensor:
    """Return (B, S) bool: True at the scenario of each sample. Ids outside 0..S-1 have no True and raise no error."""
    return scenario_B.unsqueeze(1) == torch.arange(scenarios, device=scenario_B.device)


def lookup_own(table_SX: Tensor, own_BS: Tensor) -> Tensor:
    """Return the row (B, ...) of each sample's scenario from a table (S, ...).

    A product with a one-hot matrix, exact in float64 also with TF32 and autocast. The backward pass of an index would
    add the gradients of equal rows one after the other.
    """
    rows_BX = _wide(own_BS) @ _wide(table_SX.flatten(1))
    return rows_BX.to(table_SX.dtype).view(-1, *table_SX.shape[1:])


def select_own(part_BSO: Tensor, own_BS: Tensor) -> Tensor:
    """Return (B, ..., O): from outputs (B, ..., S, O) for all scenarios, those of each sample's own scenario.

    The outputs of other scenarios get zero gradient.
    """
    other = own_BS.logical_not().view(own_BS.shape[0], *[1] * (part_BSO.dim() - 3), own_BS.shape[1], 1)
    return part_BSO.masked_fill(other, 0).sum(dim=-2)


def linear_of_own(input_BI: Tensor, weight_SOI: Tensor, bias_SO: Tensor, own_BS: Tensor) -> Tensor:
    """Return W_s x + b_s (B, ..., O) with the weights of each sample's own scenario.

    Args:
        input_BI: (B, ..., I).
        weight_SOI: weights of all scenarios.
        bias_SO: biases of all scenarios.
        own_BS: ``own_scenario``.
    """
    every = functional.linear(input_BI, weight_SOI.flatten(0, 1), bias_SO.flatten())
    return select_own(every.view(*every.shape[:-1], *bias_SO.shape), own_BS)


def normalise_by_own(
    norms: Sequence[SubsetBatchNorm], input_BH: Tensor, own_BS: Tensor, scale_SH: Tensor, shift_SH: Tensor
) -> Tensor:
    """Return the samples (B, H), each normalised by the batch norm of its own scenario.

    In training a scenario with fewer than two samples uses its running statistics and keeps them, as
    ``SubsetBatchNorm`` does. Statistics are computed in float64: their matrix products are then the same with TF32.

    Args:
        norms: for each scenario, its batch norm; they share training mode, momentum and eps.
        input_BH: (B, H).
        own_BS: ``own_scenario``.
        scale_SH: factors after normalisation.
        shift_SH: added after scaling.
    """
    x_BH, own = _wide(input_BH), _wide(own_BS)
    mean_SH = _wide(torch.stack([norm.running_mean for norm in norms]))
    var_SH = _wide(torch.stack([norm.running_var for norm in norms]))
    if norms[0].training:
        count_S1 = own.sum(dim=0).unsqueeze(1)
        share_SB = own.t() / count_S1.clamp(min=1)
        batch_mean_SH = share_SB @ x_BH
        batch_var_SH = share_SB @ (x_BH - own @ batch_mean_SH).square()
        if norms[0].batch_share is not None:
            moments = count_S1, batch_mean_SH, batch_var_SH
            count_S1, batch_mean_SH, batch_var_SH = merge_moments(*moments, norms[0].batch_share)
        enough_S1 = count_S1 > 1
        unbiased_SH = batch_var_SH * (count_S1 / (count_S1 - 1).clamp(min=1))
        _move_running(norms, (mean_SH, var_SH), (batch_mean_SH.detach(), unbiased_SH.detach()), enough_S1)
        mean_SH = torch.where(enough_S1, batch_mean_SH, mean_SH)
        var_SH = torch.where(enough_S1, batch_var_SH, var_SH)
    factor_SH = _wide(scale_SH) * (var_SH + norms[0].eps).rsqrt()
    return ((x_BH - own @ mean_SH) * (own @ factor_SH) + own @ _wide(shift_SH)).to(input_BH.dtype)


@torch.no_grad()
def _move_running(
    norms: Sequence[SubsetBatchNorm], running: tuple[Tensor, Tensor], batch: tuple[Tensor, Tensor], enough_S1: Tensor
) -> None:
    """Move running means and variances (S, H) toward those of the batch, for scenarios with at least two samples."""
    share_S1 = norms[0].momentum * enough_S1.to(running[0].dtype)
    moved = [old_SH + share_S1 * (new_SH - old_SH) for old_SH, new_SH in zip(running, batch, strict=True)]
    kept = [*(norm.running_mean for norm in norms), *(norm.running_var for norm in norms)]
    torch._foreach_copy_(kept, [row_H for moved_SH in moved for row_H in moved_SH.to(kept[0].dtype)])
    torch._foreach_add_([norm.num_batches_tracked for norm in norms], list(enough_S1.squeeze(1).long()))


def _wide(tensor: Tensor) -> Tensor:
    """Return the tensor in float64, or in float32 on MPS devices, which have no float64."""
    return tensor.to(torch.float32 if tensor.device.type == "mps" else torch.float64)

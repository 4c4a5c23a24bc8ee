"""Calibration metrics of tensors, computed on their device (``stemlab.metrics.calibration``)."""

from __future__ import annotations

import torch
from torch import Tensor

from stemlab.metrics.calibration import CLIP, PART_BITS


def tensor_log_loss(labels_B: Tensor, prob_B: Tensor) -> float:
    """Return the mean binary cross-entropy in nats; NaN without samples or with a NaN probability."""
    if _is_unusable(prob_B):
        return float("nan")
    clipped_B = prob_B.double().clamp(CLIP, 1 - CLIP)
    return tensor_exact_sum(-torch.where(labels_B > 0, clipped_B, 1 - clipped_B).log()) / len(clipped_B)


def tensor_calibration_ratio(labels_B: Tensor, prob_B: Tensor) -> float:
    """Return predicted / observed positives; NaN without positives or with a NaN probability."""
    positives = int((labels_B > 0).sum())
    return float("nan") if positives == 0 or _is_unusable(prob_B) else tensor_exact_sum(prob_B) / positives


def tensor_ece(labels_B: Tensor, prob_B: Tensor, bins: int = 15) -> float:
    """Return the expected calibration error over bins of equally many samples (``calibration.ece``)."""
    if _is_unusable(prob_B):
        return float("nan")
    prob_B, order_B = prob_B.double().sort()
    positive_B = (labels_B > 0)[order_B].long()
    quantiles = torch.arange(bins, device=prob_B.device) * len(prob_B) // bins
    starts = torch.searchsorted(prob_B, torch.unique(prob_B[quantiles])).tolist()  # first sample of each bin
    gap = sum(
        abs(int(positive_B[first:stop].sum()) - float(prob_B[first:stop].sum()))
        for first, stop in zip(starts, [*starts[1:], len(prob_B)], strict=True)
    )
    return gap / len(prob_B)


def tensor_exact_sum(value_B: Tensor) -> float:
    """Return the sum of values in [0, 2^10), independent of their order (``calibration.exact_sum``)."""
    scaled_B = value_B.double() * 2.0**PART_BITS
    whole_B = scaled_B.floor()
    rest_B = ((scaled_B - whole_B) * 2.0**PART_BITS).floor()
    units = (int(whole_B.long().sum()) << PART_BITS) + int(rest_B.long().sum())
    return units / (1 << 2 * PART_BITS)


def _is_unusable(prob_B: Tensor) -> bool:
    """Return whether there are no probabilities, or one is NaN."""
    return len(prob_B) == 0 or bool(prob_B.isnan().any())

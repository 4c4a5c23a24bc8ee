"""AUC of tensors, computed on their device: the algorithm of ``stemlab.metrics.auc`` with the same integers.

Pairs are counted in int64 after one sort, so AUC and gAUC are equal to those of the CPU bit for bit.

Legend: B samples, G groups, P positives.
"""

from __future__ import annotations

import torch
from torch import Tensor

from stemlab.metrics.auc import GroupAUC
from stemlab.types import MISSING_GROUP

_GROUP_LIMIT, _GROUP_SHIFT = 1 << 31, 33
_SIGN = -(1 << 63)  # toggles the highest bit: signed integers then sort like the unsigned ones of the CPU
_WORD = (1 << 32) - 1


def tensor_group_auc(labels_B: Tensor, score_B: Tensor, group_B: Tensor) -> GroupAUC:
    """Return the AUC of every group.

    Args:
        labels_B: 0 or 1.
        score_B: scores; higher means more likely positive.
        group_B: integer group keys; samples with ``MISSING_GROUP`` are left out.

    Returns:
        The same values as ``stemlab.metrics.group_auc`` for the same arrays.
    """
    group_B = group_B.long()
    if bool((missing_B := group_B == MISSING_GROUP).any()):
        labels_B, score_B, group_B = labels_B[~missing_B], score_B[~missing_B], group_B[~missing_B]
    if len(group_B) == 0:
        empty = torch.empty(0, dtype=torch.int64).numpy()
        return GroupAUC(empty, empty.astype("float64"), empty)
    code_B, key_of_code = _group_codes(group_B)
    row_B = (code_B << _GROUP_SHIFT | _order_preserving(score_B) << 1 | (labels_B > 0).long()) ^ _SIGN
    row_B = row_B.sort().values
    code_B = (row_B ^ _SIGN) >> _GROUP_SHIFT & (_GROUP_LIMIT - 1)
    first_G = torch.cat((code_B.new_ones(1, dtype=torch.bool), code_B[1:] != code_B[:-1])).nonzero().squeeze(1)
    wins_G, pos_G, neg_G = _count_pairs(row_B, first_G)
    auc_G = wins_G.double() / (2.0 * pos_G.double() * neg_G.double())
    auc_G[(pos_G * neg_G == 0) | score_B.isnan().any()] = float("nan")
    code_G = code_B[first_G]
    key_G = code_G + int(key_of_code) if isinstance(key_of_code, int) else key_of_code[code_G]
    return GroupAUC(key_G.cpu().numpy(), auc_G.cpu().numpy(), (pos_G + neg_G).cpu().numpy())


def tensor_auc(labels_B: Tensor, score_B: Tensor) -> float:
    """Return the AUC; NaN for one class only, no samples, or a NaN score."""
    return tensor_group_auc(labels_B, score_B, torch.zeros(len(labels_B), device=labels_B.device)).mean()


def _group_codes(group_B: Tensor) -> tuple[Tensor, int | Tensor]:
    """Return codes (B,) below 2^31 in the order of the keys, and the key of code 0 or the keys of all codes."""
    least, most = (int(bound) for bound in group_B.aminmax())
    if most - least < _GROUP_LIMIT:
        return group_B - least, least
    known, code_B = torch.unique(group_B, return_inverse=True)
    return code_B, known


def _order_preserving(score_B: Tensor) -> Tensor:
    """Return integers below 2^32 that sort like the scores; equal scores give equal integers."""
    if score_B.dtype != torch.float32:
        rank_B: Tensor = torch.unique(score_B, return_inverse=True)[1]
        return rank_B
    bits_B = (score_B + 0.0).view(torch.int32).long() & _WORD  # adding 0 makes -0.0 equal to 0.0
    # the bits of negative floats sort in reverse order and must be below those of positive ones
    return torch.where(bits_B >> 31 == 1, ~bits_B & _WORD, bits_B | 1 << 31)


def _count_pairs(row_B: Tensor, first_G: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return per group: 2 * (pairs in which the positive scores higher) + tied pairs, positives, negatives; (G,) each.

    Args:
        row_B: encoded samples, sorted; among equal scores negatives come first.
        first_G: index of the first sample of each group.
    """
    at_P = (row_B & 1).nonzero().squeeze(1)
    # all negatives before a positive score lower or tie: count them twice, then subtract the ties once
    won_P = at_P - torch.arange(len(at_P), device=row_B.device)
    tie_P = row_B[at_P] ^ 1  # the encoded negative that ties with this positive
    before_P = (at_P - 1).clamp_min(0)
    opens_P = (at_P > 0) & (row_B[before_P] == tie_P)  # first positive after tied negatives
    tied_negatives_P = at_P - torch.searchsorted(row_B, tie_P)
    tied_positives_P = torch.searchsorted(row_B, row_B[at_P], right=True) - at_P
    ties_P = tied_negatives_P * tied_positives_P * opens_P
    end = first_G.new_tensor([len(row_B)])
    bound_G = torch.searchsorted(at_P, torch.cat((first_G, end)))
    sum_P = torch.cat((end.new_zeros(1), (2 * won_P - ties_P).cumsum(0)))
    pos_G = bound_G.diff()
    neg_G = torch.cat((first_G, end)).diff() - pos_G
    before_G = first_G - bound_G[:-1]  # negatives of earlier groups
    return sum_P[bound_G].diff() - 2 * before_G * pos_G, pos_G, neg_G

"""Products of field vectors, pair by pair.

Pairs p = (i < j) are in lexicographic order: (0, 1), (0, 2), ..., (F-2, F-1).

Legend: R samples, F fields, P = F(F-1)/2 pairs, E width, T weightings.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import torch
from torch import Tensor


def pair_names(names: Sequence[str]) -> tuple[tuple[str, str], ...]:
    """Return the pairs of names in the order of the products."""
    return tuple(itertools.combinations(names, 2))


def pair_products(vector_RFE: Tensor, scale_P: Tensor) -> Tensor:
    """Return r_p = m_p (x_i * x_j) for each pair, (R, P, E), where m is ``scale_P``.

    The memory order is (E, P, R): later operations run over long contiguous rows of samples.
    """
    vector_EFR = vector_RFE.permute(2, 1, 0).contiguous()
    i_P, j_P = torch.triu_indices(vector_RFE.shape[1], vector_RFE.shape[1], 1, device=vector_RFE.device)
    product_EPR = vector_EFR.index_select(1, i_P) * vector_EFR.index_select(1, j_P)
    return (scale_P.unsqueeze(1) * product_EPR).permute(2, 1, 0)


def pair_products_by_sample(vector_RFE: Tensor, scale_P: Tensor) -> Tensor:
    """Return ``pair_products`` (R, P, E) with the memory order (R, P, E), for one small matrix product per sample."""
    fields = vector_RFE.shape[1]
    i_P, j_P = torch.triu_indices(fields, fields, 1, device=vector_RFE.device)
    return vector_RFE.index_select(1, i_P) * vector_RFE.index_select(1, j_P) * scale_P.unsqueeze(1)


def weighted_pair_sum(vector_RFE: Tensor, weight_RTP: Tensor) -> Tensor:
    """Return sum_p w_p (x_i * x_j) for each sample and weighting, (R, T, E), without the products.

    sum_{i<j} w_ij (x_i * x_j) = sum_i x_i * (A x)_i, where A has w_ij above its diagonal and zeros elsewhere.
    """
    (R, F, E), T = vector_RFE.shape, weight_RTP.shape[1]
    i_P, j_P = torch.triu_indices(F, F, 1, device=weight_RTP.device)
    matrix_RTX = weight_RTP.new_zeros(R, T, F * F).index_copy(2, i_P * F + j_P, weight_RTP)
    ax_RTFE = torch.bmm(matrix_RTX.view(R, T * F, F), vector_RFE).view(R, T, F, E)
    return (ax_RTFE * vector_RFE.unsqueeze(1)).sum(dim=2)

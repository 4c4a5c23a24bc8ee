"""Products of field vectors, two by two, without copies of the vectors.

Pairs p = (i < j) are in lexicographic order: (0, 1), (0, 2), ..., (F-2, F-1).

Legend: R rows, F fields, P = F(F-1)/2 pairs, E width, W weightings.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable


def pair_names(names: Sequence[str]) -> tuple[tuple[str, str], ...]:
    """Return the pairs of names in the order of the products."""
    return tuple(itertools.combinations(names, 2))


def pair_products(vector_EFR: Tensor, scale_P: Tensor) -> Tensor:
    """Return scale_p * (v_i * v_j) for every pair, (E, P, R).

    Rows come last, so that a product of a field with all later ones is one call on long contiguous pieces.
    """
    product: Tensor = _Products.apply(vector_EFR, scale_P)  # type: ignore[no-untyped-call]
    return product


class _Products(torch.autograd.Function):
    """Keeps the vectors for the backward pass, not the products."""

    @staticmethod
    def forward(ctx: Any, vector_EFR: Tensor, scale_P: Tensor) -> Tensor:
        E, _, R = vector_EFR.shape
        ctx.save_for_backward(vector_EFR, scale_P)
        product_EPR = vector_EFR.new_empty(E, len(scale_P), R)
        for i, pairs in _later(vector_EFR):
            part = product_EPR[:, pairs]
            torch.mul(vector_EFR[:, i : i + 1], vector_EFR[:, i + 1 :], out=part)
            part.mul_(scale_P[pairs, None])
        return product_EPR

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_EPR: Tensor) -> tuple[Tensor, Tensor]:
        vector_EFR, scale_P = ctx.saved_tensors
        d_vector, d_scale = torch.zeros_like(vector_EFR), torch.empty_like(scale_P)
        for i, pairs in _later(vector_EFR):
            grad, scale = grad_EPR[:, pairs], scale_P[pairs, None]
            first, others = vector_EFR[:, i : i + 1], vector_EFR[:, i + 1 :]
            at_others = grad * first
            d_scale[pairs] = (at_others * others).sum(dim=(0, 2))
            d_vector[:, i + 1 :].addcmul_(at_others, scale)
            d_vector[:, i] += (grad * others).mul_(scale).sum(dim=1)
        return d_vector, d_scale


def _later(vector_EFR: Tensor) -> Iterator[tuple[int, slice]]:
    """Yield every field that has later ones, with the places of its pairs with them."""
    start, fields = 0, vector_EFR.shape[1]
    for i in range(fields - 1):
        end = start + fields - 1 - i
        yield i, slice(start, end)
        start = end


def weighted_products(vector_RFE: Tensor, weight_RWP: Tensor) -> Tensor:
    """Return sum_p w_p (v_i * v_j) for every row and weighting, (R, W, E), without the products.

    The sum is that over i of v_i * (A v)_i, where A holds w_ij above its diagonal.
    """
    (R, F, E), W = vector_RFE.shape, weight_RWP.shape[1]
    place_P = torch.tensor([i * F + j for i, j in itertools.combinations(range(F), 2)], device=weight_RWP.device)
    matrix_RWX = weight_RWP.new_zeros(R, W, F * F).index_copy(2, place_P, weight_RWP)
    others = torch.bmm(matrix_RWX.view(R, W * F, F), vector_RFE).view(R, W, F, E)
    return (others * vector_RFE.unsqueeze(1)).sum(dim=2)

"""Products of fields and mixtures of experts: what they are, and that their own backward passes are right."""

from __future__ import annotations

import itertools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from stemlab.models.multiscenario.mmfi_attention import mix_slots
from stemlab.nn.pairs import pair_names, pair_products, weighted_products


def random(*shape: int, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape, dtype=torch.float64, generator=generator, requires_grad=True)


@given(fields=st.integers(2, 6), rows=st.integers(0, 4), width=st.integers(1, 3))
@settings(max_examples=25, deadline=None)
def test_products_are_in_lexicographic_order(fields: int, rows: int, width: int) -> None:
    pairs = list(itertools.combinations(range(fields), 2))
    vector_EFR, scale_P = random(width, fields, rows), random(len(pairs), seed=1)
    product_EPR = pair_products(vector_EFR, scale_P)
    expected = [scale_P[p] * vector_EFR[:, i] * vector_EFR[:, j] for p, (i, j) in enumerate(pairs)]
    torch.testing.assert_close(product_EPR, torch.stack(expected, dim=1))
    assert pair_names("abcdef"[:fields]) == tuple(itertools.combinations("abcdef"[:fields], 2))
    weight_RWP = random(rows, 2, len(pairs), seed=2)
    plain_EPR = pair_products(vector_EFR, torch.ones_like(scale_P))
    expected = torch.einsum("rwp,epr->rwe", weight_RWP, plain_EPR)
    torch.testing.assert_close(weighted_products(vector_EFR.permute(2, 1, 0), weight_RWP), expected)


def test_gradients_of_products() -> None:
    assert torch.autograd.gradcheck(pair_products, (random(2, 5, 3), random(10, seed=1)))
    assert torch.autograd.gradcheck(weighted_products, (random(3, 5, 2), random(3, 2, 10, seed=1)))


@pytest.mark.parametrize(("shared", "own"), [(2, 1), (1, 0), (3, 2)])
def test_mixtures(shared: int, own: int) -> None:
    weights, experts, specific = random(2, shared + own, 5), random(shared, 3, 5, seed=1), random(2, own, 3, 5, seed=2)
    every = torch.cat([experts.expand(2, -1, -1, -1), specific], dim=1)
    torch.testing.assert_close(mix_slots(weights, experts, specific), torch.einsum("tnx,tnmx->tmx", weights, every))
    assert torch.autograd.gradcheck(mix_slots, (weights, experts, specific))

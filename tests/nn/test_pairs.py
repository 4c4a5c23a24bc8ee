"""Products of field vectors, against a loop over pairs."""

from __future__ import annotations

import itertools

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from stemlab.nn.pairs import pair_names, pair_products, weighted_pair_sum


def random(*shape: int, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape, dtype=torch.float64, generator=generator, requires_grad=True)


@given(fields=st.integers(2, 6), samples=st.integers(0, 4), width=st.integers(1, 3))
@settings(max_examples=25, deadline=None)
def test_products_are_in_lexicographic_order(fields: int, samples: int, width: int) -> None:
    pairs = list(itertools.combinations(range(fields), 2))
    vector_RFE, scale_P = random(samples, fields, width), random(len(pairs), seed=1)
    expected = [scale_P[p] * vector_RFE[:, i] * vector_RFE[:, j] for p, (i, j) in enumerate(pairs)]
    torch.testing.assert_close(pair_products(vector_RFE, scale_P), torch.stack(expected, dim=1))
    assert pair_names("abcdef"[:fields]) == tuple(itertools.combinations("abcdef"[:fields], 2))


def test_gradients_of_products() -> None:
    assert torch.autograd.gradcheck(pair_products, (random(3, 5, 2), random(10, seed=1)))


@given(fields=st.integers(2, 6), samples=st.integers(0, 4), width=st.integers(1, 3))
@settings(max_examples=25, deadline=None)
def test_weighted_pair_sum(fields: int, samples: int, width: int) -> None:
    pairs = fields * (fields - 1) // 2
    vector_RFE, weight_RTP = random(samples, fields, width), random(samples, 2, pairs, seed=1)
    expected = torch.bmm(weight_RTP, pair_products(vector_RFE, torch.ones(pairs, dtype=torch.float64)))
    torch.testing.assert_close(weighted_pair_sum(vector_RFE, weight_RTP), expected)


def test_gradients_of_weighted_pair_sum() -> None:
    assert torch.autograd.gradcheck(weighted_pair_sum, (random(3, 5, 2), random(3, 2, 10, seed=1)))

"""Weights from scores: a hard mask, softmax, sparsemax (against its definition) and entmax."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from stemlab.nn.sparse_attention import sparse_weights

scores = st.lists(st.floats(-5, 5), min_size=1, max_size=8).map(lambda v: torch.tensor(v, dtype=torch.float64))


def sparsemax_by_definition(z: Tensor) -> Tensor:
    """Return the nearest point of the simplex, by sorting (Martins and Astudillo, ICML 2016)."""
    ordered = z.sort(descending=True).values
    k = max(k for k in range(1, len(z) + 1) if 1 + k * ordered[k - 1] > ordered[:k].sum())
    return (z - (ordered[:k].sum() - 1) / k).clamp_min(0)


@given(z=scores, temperature=st.floats(0.1, 3))
@settings(max_examples=60, deadline=None)
def test_distributions(z: Tensor, temperature: float) -> None:
    torch.testing.assert_close(sparse_weights(z, "sparsemax", temperature), sparsemax_by_definition(z / temperature))
    torch.testing.assert_close(sparse_weights(z, "softmax_t", temperature), (z / temperature).softmax(0))
    for kind in ("softmax_t", "sparsemax", "entmax15"):
        weights = sparse_weights(z, kind, temperature)
        assert float(weights.sum()) == pytest.approx(1, abs=1e-6)
        assert (weights >= 0).all()
        order = z.argsort()
        assert (weights[order].diff() >= -1e-9).all()


@given(z=scores)
def test_hard_mask(z: Tensor) -> None:
    weights = sparse_weights(z, "tanh_relu")
    assert torch.equal(weights == 0, z <= 0)
    torch.testing.assert_close(weights[z > 0], z[z > 0].tanh())


def test_entmax_lies_between_softmax_and_sparsemax() -> None:
    z = torch.tensor([2.0, 1.5, 0.7, -1.0])
    zeros = [int((sparse_weights(z, kind) == 0).sum()) for kind in ("softmax_t", "entmax15", "sparsemax")]
    assert zeros == [0, 1, 2]


def test_a_low_temperature_sharpens() -> None:
    z = torch.tensor([1.0, 0.9, 0.0])
    assert sparse_weights(z, "softmax_t", 0.01)[0] > 0.999 > 0.6 > sparse_weights(z, "softmax_t", 1.0)[0]

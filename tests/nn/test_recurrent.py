"""The GRU that returns last states against PyTorch's on packed sequences."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence

from stemlab.nn.recurrent import LastStateGRU


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-9), (torch.float32, 2e-4)])
@settings(max_examples=30, deadline=None)
@given(lengths=st.lists(st.integers(1, 7), min_size=1, max_size=9), seed=st.integers(0, 2**31))
def test_equals_the_packed_gru(dtype: torch.dtype, tolerance: float, lengths: list[int], seed: int) -> None:
    torch.manual_seed(seed)
    gru, length_B = LastStateGRU(5, 4).to(dtype), torch.tensor(lengths)
    x_BLD = torch.randn(len(lengths), max(lengths), 5, dtype=dtype, requires_grad=True)
    packed = pack_padded_sequence(x_BLD, length_B, batch_first=True, enforce_sorted=False)
    one, other = gru(x_BLD, length_B), nn.GRU.forward(gru, packed)[1][0]
    torch.testing.assert_close(one, other, rtol=tolerance, atol=tolerance)
    weight = torch.randn_like(one)
    leaves = [x_BLD, *gru.parameters()]
    gradients = [torch.autograd.grad((value * weight).sum(), leaves) for value in (one, other)]
    for mine, expected in zip(*gradients, strict=True):
        torch.testing.assert_close(mine, expected, rtol=tolerance, atol=tolerance)


def test_padding_does_not_change_the_state() -> None:
    gru, length_B = LastStateGRU(5, 4), torch.tensor([2, 6, 1])
    x_BLD = torch.randn(3, 9, 5)
    changed = torch.where((torch.arange(9) < length_B.unsqueeze(1)).unsqueeze(2), x_BLD, torch.nan)
    assert torch.equal(gru(x_BLD, length_B), gru(changed, length_B))

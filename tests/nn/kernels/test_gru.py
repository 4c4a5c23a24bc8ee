"""The GRU kernel on unique embeddings against the plain GRU, in values and gradients."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from torch import Tensor, nn

from stemlab.nn.kernels.dispatch import kernel_mode
from stemlab.nn.kernels.embedding_lookup import UniqueEmbeddings, look_up_history
from stemlab.nn.recurrent import LastStateGRU
from tests.nn.kernels.test_transformer import KINDS, LENGTHS, assert_same, histories, table, with_normal_weights

KERNEL = "_LastStatesBackward"


@KINDS
@settings(max_examples=25, deadline=None)
@given(lengths=LENGTHS)
def test_equals_the_plain_gru(dtype: torch.dtype, tolerance: float, lengths: list[int]) -> None:
    gru, items = with_normal_weights(LastStateGRU(6, 4), dtype), table(8, dtype)
    history_BL, length_B = histories(lengths)

    def kernel() -> Tensor:
        unique, _ = look_up_history(items, history_BL)
        assert isinstance(unique, UniqueEmbeddings)
        return gru.forward_unique(unique, length_B)

    def plain() -> Tensor:
        return gru(items[history_BL], length_B)

    assert type(kernel().grad_fn).__name__ == KERNEL
    assert_same(kernel, plain, [items, *gru.parameters()], tolerance)


def test_derivative_of_the_gru_in_double_precision() -> None:
    gru, length_B = with_normal_weights(LastStateGRU(3, 2), torch.float64), torch.tensor([3, 1])
    rows = torch.randn(3, 3, dtype=torch.float64, requires_grad=True)

    def apply(rows: Tensor, *_: Tensor) -> Tensor:
        return gru.forward_unique(UniqueEmbeddings(rows, torch.tensor([[0, 1, 1], [2, 0, 1]])), length_B)

    assert torch.autograd.gradcheck(apply, (rows, *gru.parameters()))


def test_rows_after_the_last_item_get_zero() -> None:
    gru, rows = with_normal_weights(LastStateGRU(6, 4), torch.float32), table(5, torch.float32)
    items = UniqueEmbeddings(rows, torch.tensor([[0, 2, 3], [2, 2, 4]]))
    gru.forward_unique(items, torch.tensor([2, 3])).sum().backward()
    assert rows.grad.any(dim=1).tolist() == [True, False, True, False, True]


@pytest.mark.parametrize("own", [True, False])
def test_embeddings_of_another_table(own: bool) -> None:
    first, second = nn.Embedding(9, 4), nn.Embedding(11, 3)
    history_BL = torch.tensor([[5, 5, 8], [1, 5, 0]])
    unique, _ = look_up_history(first, history_BL)
    assert isinstance(unique, UniqueEmbeddings)
    found, expected = (unique.of(second), second) if own else (unique, first)
    assert torch.equal(found.dense(), expected(history_BL))


def test_where_the_gru_kernel_runs() -> None:
    gru, items = LastStateGRU(6, 4), UniqueEmbeddings(torch.randn(2, 6), torch.tensor([[0, 1]]))

    def runs() -> bool:
        return type(gru.forward_unique(items, torch.tensor([2])).grad_fn).__name__ == KERNEL

    assert runs()
    with kernel_mode("off"):
        assert not runs()
    with torch.autocast("cpu", torch.bfloat16):
        assert not runs()

"""Embedding lookups against ``torch.nn.functional.embedding``, in values and gradients."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional

from stemlab.nn.kernels.dispatch import kernel_mode
from stemlab.nn.kernels.embedding_lookup import UniqueEmbeddings, look_up, look_up_history, row_gradients, sum_rows

IDS = st.lists(st.integers(0, 6), min_size=1, max_size=30)


@settings(max_examples=30, deadline=None)
@given(IDS, IDS)
def test_lookups_of_one_table(first: list[int], second: list[int]) -> None:
    table_VD = torch.randn(7, 3, dtype=torch.float64, requires_grad=True)
    ids = torch.tensor(first), torch.tensor(second).unsqueeze(1)
    kernel, plain = look_up(table_VD, *ids), [functional.embedding(i, table_VD) for i in ids]
    for one, other in zip(kernel, plain, strict=True):
        assert torch.equal(one, other)
    for part in (slice(0, 1), slice(1, 2), slice(0, 2)):
        losses = [sum(found.square().sum() for found in list(every)[part]) for every in (kernel, plain)]
        (one,), (other,) = (torch.autograd.grad(loss, [table_VD], retain_graph=True) for loss in losses)
        torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("rows", [7, 70_000])  # a bit map of the table, or a sort of the ids
@settings(max_examples=20, deadline=None)
@given(ids=IDS, others=IDS)
def test_deduplicated_histories(rows: int, ids: list[int], others: list[int]) -> None:
    table_VD = torch.randn(rows, 3, requires_grad=True)
    history_BL, other = torch.tensor(ids).unsqueeze(0), torch.tensor(others)
    unique, (found,) = look_up_history(table_VD, history_BL, other)
    assert isinstance(unique, UniqueEmbeddings)
    assert len(unique.row_UD) == len(set(ids))
    assert torch.equal(unique.dense(), functional.embedding(history_BL, table_VD))
    assert torch.equal(found, functional.embedding(other, table_VD))
    plain = functional.embedding(history_BL, table_VD).exp().sum() + functional.embedding(other, table_VD).sum()
    (one,), (expected,) = (
        torch.autograd.grad(v, [table_VD]) for v in (unique.dense().exp().sum() + found.sum(), plain)
    )
    torch.testing.assert_close(one, expected, rtol=1e-4, atol=1e-4)


def test_without_kernels_the_history_is_dense() -> None:
    table_VD, history_BL = torch.randn(7, 3), torch.tensor([[1, 1, 2]])
    with kernel_mode("off"):
        dense, (found,) = look_up_history(table_VD, history_BL, history_BL)
    assert torch.equal(dense, table_VD[history_BL])
    assert torch.equal(found, table_VD[history_BL])


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 3), IDS)
def test_row_gradients_are_the_backward_pass_of_sum_rows(terms: int, ids: list[int]) -> None:
    index_TN = torch.tensor(ids * terms).view(-1, terms)
    row_UD = torch.randn(7, 3, dtype=torch.float64, requires_grad=True)
    plain = row_UD[index_TN].sum(dim=1)
    torch.testing.assert_close(sum_rows(row_UD.detach(), index_TN), plain.detach())
    gradient_TD = torch.randn_like(plain)
    (expected,) = torch.autograd.grad(plain, row_UD, gradient_TD)
    for found in row_gradients([gradient_TD, gradient_TD], index_TN, 7):
        torch.testing.assert_close(found, expected)


def test_row_gradients_of_a_large_table() -> None:
    index_TN, gradient_TD = torch.tensor([[70_000], [3], [70_000]]), torch.tensor([[1.0], [2.0], [3.0]])
    (found,) = row_gradients([gradient_TD], index_TN, 70_001)
    assert (found[70_000].item(), found[3].item(), found.sum().item()) == (4, 2, 6)

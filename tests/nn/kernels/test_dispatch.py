"""Blocks with a backward pass of their own equal torch's modules in values and gradients."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils.rnn import pack_padded_sequence

from stemlab.nn import interest
from stemlab.nn.attention import TransformerLayer, causal_bias, padding_bias
from stemlab.nn.interest import SelfAttentiveExtractor
from stemlab.nn.kernels.embedding_lookup import Distinct, Repeats, look_up
from stemlab.nn.recurrent import LastStateGRU, step_by_step

LENGTHS = st.lists(st.integers(1, 7), min_size=1, max_size=9)


def same(ours: Callable[[], Tensor], theirs: Callable[[], Tensor], leaves: Sequence[Tensor], tolerance: float) -> None:
    """Compare values and the gradients of a function that weights every output differently."""
    one, other = ours(), theirs()
    torch.testing.assert_close(one, other, rtol=tolerance, atol=tolerance)
    weight = torch.randn(one.shape, dtype=one.dtype, generator=torch.Generator().manual_seed(1))
    found = [torch.autograd.grad((value * weight).sum(), leaves) for value in (one, other)]
    for mine, their in zip(*found, strict=True):
        torch.testing.assert_close(mine, their, rtol=tolerance, atol=tolerance)


def made_useful(module: nn.Module, dtype: torch.dtype) -> nn.Module:
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.normal_(0, 0.5, generator=generator)
    return module.to(dtype)


def history_of(lengths: list[int]) -> tuple[Tensor, Tensor]:
    length_B = torch.tensor(lengths)
    return (torch.arange(max(lengths)) < length_B.unsqueeze(1)).long() * 5, length_B


def vectors(history_BL: Tensor, width: int, dtype: torch.dtype) -> Tensor:
    generator = torch.Generator().manual_seed(2)
    return torch.randn(*history_BL.shape, width, dtype=dtype, generator=generator).requires_grad_()


def distinct(table_VD: Tensor, ids: Tensor) -> Distinct:
    repeats = Repeats.of(ids, table_VD)
    return repeats.put(look_up(table_VD, repeats.ids)[0])


KINDS = pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-9), (torch.float32, 2e-4)])


# ------------------------------------------------------------------------------------------------------------- layer


@KINDS
@settings(max_examples=30, deadline=None)
@given(lengths=LENGTHS, causal=st.booleans())
def test_transformer_layer(dtype: torch.dtype, tolerance: float, lengths: list[int], causal: bool) -> None:
    layer = made_useful(TransformerLayer(6), dtype)
    history_BL, _ = history_of(lengths)
    x_BLD = vectors(history_BL, 6, dtype)
    causes = causal_bias(x_BLD.shape[1], x_BLD.device, dtype)
    bias = causes if causal else padding_bias(history_BL, dtype)
    same(
        lambda: layer(x_BLD, bias),
        lambda: layer.after_attention(layer.attend(x_BLD, bias), x_BLD),
        [x_BLD, *layer.parameters()],
        tolerance,
    )


@KINDS
@settings(max_examples=30, deadline=None)
@given(lengths=LENGTHS, data=st.data(), positions=st.booleans())
def test_transformer_layer_of_rows(
    dtype: torch.dtype, tolerance: float, lengths: list[int], data: st.DataObject, positions: bool
) -> None:
    layer = made_useful(TransformerLayer(6), dtype)
    history_BL, length_B = history_of(lengths)
    ids = st.lists(st.integers(1, 6), min_size=history_BL.numel(), max_size=history_BL.numel())
    drawn_BL = torch.tensor(data.draw(ids)).view(history_BL.shape) * (history_BL > 0)
    item_VD, place_VD = vectors(torch.zeros(2, 8), 6, dtype).detach()
    tables = [item_VD.clone().requires_grad_(), place_VD.clone().requires_grad_()][: 1 + positions]
    places = [drawn_BL, interest.position_ids(length_B, drawn_BL.shape[1])][: 1 + positions]
    bias = padding_bias(history_BL, dtype)

    def plain() -> Tensor:
        x_BLD = sum(functional.embedding(place, table) for place, table in zip(places, tables, strict=True))
        return layer.after_attention(layer.attend(x_BLD, bias), x_BLD)

    def ours() -> Tensor:
        terms = [distinct(tables[0], drawn_BL), *(Distinct(t, p) for t, p in zip(tables[1:], places[1:], strict=True))]
        return layer.of_rows(terms, bias)

    assert type(ours().grad_fn).__name__ == "_LayerBackward"
    same(ours, plain, [*tables, *layer.parameters()], tolerance)


def test_the_layer_is_one_node_but_for_heads_and_dropout() -> None:
    x_BLD, bias = torch.randn(3, 4, 8), torch.zeros(1, 1)
    name = lambda layer: type(layer(x_BLD, bias).grad_fn).__name__  # noqa: E731
    assert name(TransformerLayer(8)) == "_LayerBackward"
    assert name(TransformerLayer(8, dropout=0.5)) != "_LayerBackward"
    assert name(TransformerLayer(8, dropout=0.5).eval()) == "_LayerBackward"
    assert name(TransformerLayer(8, heads=2)) != "_LayerBackward"
    with torch.autocast("cpu", torch.bfloat16):
        assert name(TransformerLayer(8)) != "_LayerBackward"


def test_key_biases_get_exactly_zero() -> None:
    layer = made_useful(TransformerLayer(8), torch.float32)
    layer(torch.randn(3, 4, 8), torch.zeros(1, 1)).square().sum().backward()
    assert not layer.qkv.bias.grad[8:16].any()
    assert bool(layer.qkv.bias.grad[:8].all())


# -------------------------------------------------------------------------------------------------------------- pool


@KINDS
@pytest.mark.parametrize(("transformer", "pool_raw"), [(False, True), (False, False), (True, False)])
@pytest.mark.parametrize("mask_padding", [True, False])
def test_pool(
    dtype: torch.dtype,
    tolerance: float,
    transformer: bool,
    pool_raw: bool,
    mask_padding: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    extractor = SelfAttentiveExtractor(
        7, 6, 4, 3, position_embedding=True, transformer=transformer, pool_raw=pool_raw, mask_padding=mask_padding
    )
    made_useful(extractor, dtype)
    history_BL, length_B = history_of([1, 7, 3, 7])
    item_BLD = vectors(history_BL, 6, dtype)

    def plain() -> Tensor:
        with monkeypatch.context() as patch:
            patch.setattr(interest, "use_cpu_kernel", lambda *tensors: False)
            return extractor(item_BLD, history_BL, length_B)

    assert type(extractor(item_BLD, history_BL, length_B).grad_fn).__name__ == "_PoolBackward"
    assert type(plain().grad_fn).__name__ != "_PoolBackward"
    leaves = [item_BLD, *extractor.parameters()]
    same(lambda: extractor(item_BLD, history_BL, length_B), plain, leaves, tolerance)
    places = torch.arange(history_BL.numel()).view(history_BL.shape)
    same(lambda: extractor(Distinct(item_BLD.flatten(0, 1), places), history_BL, length_B), plain, leaves, tolerance)


# --------------------------------------------------------------------------------------------------------------- GRU


@KINDS
@settings(max_examples=30, deadline=None)
@given(lengths=LENGTHS)
def test_gru_equals_torchs_on_packed_rows(dtype: torch.dtype, tolerance: float, lengths: list[int]) -> None:
    gru = made_useful(LastStateGRU(5, 4), dtype)
    history_BL, length_B = history_of(lengths)
    x_BLD = vectors(history_BL, 5, dtype)

    def packed() -> Tensor:
        rows = pack_padded_sequence(x_BLD, length_B, batch_first=True, enforce_sorted=False)
        return nn.GRU.forward(gru, rows)[1][0]

    same(lambda: gru(x_BLD, length_B), packed, [x_BLD, *gru.parameters()], tolerance)


def test_gru_without_the_node() -> None:
    gru = made_useful(LastStateGRU(5, 4), torch.float32)
    history_BL, length_B = history_of([2, 6, 1])
    x_BLD = vectors(history_BL, 5, torch.float32)
    with torch.autocast("cpu", torch.bfloat16):
        state_BH = gru(x_BLD, length_B)
        of_distinct = gru(Distinct(x_BLD.flatten(0, 1), torch.arange(18).view(3, 6)), length_B)
    torch.testing.assert_close(state_BH.float(), gru(x_BLD, length_B), rtol=0.05, atol=0.05)
    assert torch.equal(of_distinct, state_BH)


def test_gru_meets_items_step_by_step() -> None:
    steps = step_by_step(torch.tensor([1, 3, 2, 3]), width=4)
    assert steps.order_B.tolist() == [1, 3, 2, 0]
    assert steps.counts == [4, 3, 2]
    assert steps.item_T.tolist() == [4, 12, 8, 0, 5, 13, 9, 6, 14]
    assert steps.before_T.tolist() == [0, 1, 2, 4, 5]
    assert steps.last_B.tolist() == [3, 7, 6, 8]


@KINDS
@settings(max_examples=30, deadline=None)
@given(lengths=LENGTHS, data=st.data())
def test_gru_with_every_different_item_once(
    dtype: torch.dtype, tolerance: float, lengths: list[int], data: st.DataObject
) -> None:
    gru = made_useful(LastStateGRU(5, 4), dtype)
    history_BL, length_B = history_of(lengths)
    ids = st.lists(st.integers(0, 6), min_size=history_BL.numel(), max_size=history_BL.numel())
    history_BL = torch.tensor(data.draw(ids)).view(history_BL.shape)
    table_VD = vectors(torch.zeros(1, 7), 5, dtype).detach()[0].requires_grad_()
    same(
        lambda: gru(distinct(table_VD, history_BL), length_B),
        lambda: gru(functional.embedding(history_BL, table_VD), length_B),
        [table_VD, *gru.parameters()],
        tolerance,
    )


def test_gru_ignores_padding() -> None:
    gru = LastStateGRU(5, 4)
    _, length_B = history_of([2, 6, 1])
    x_BLD = torch.randn(3, 9, 5)
    changed = torch.where((torch.arange(9) < length_B.unsqueeze(1)).unsqueeze(2), x_BLD, torch.nan)
    assert torch.equal(gru(x_BLD, length_B), gru(changed, length_B))


# -------------------------------------------------------------------------------------------------------------- rows


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(0, 6), min_size=1, max_size=30), st.lists(st.integers(0, 6), min_size=1, max_size=30))
def test_rows_of_a_table(first: list[int], second: list[int]) -> None:
    table_VD = torch.randn(7, 3, dtype=torch.float64, requires_grad=True)
    ids = torch.tensor(first), torch.tensor(second).unsqueeze(1)
    for index in range(2):
        same(
            lambda index=index: look_up(table_VD, *ids)[index],
            lambda index=index: functional.embedding(ids[index], table_VD),
            [table_VD],
            1e-12,
        )
    total = sum(found.square().sum() for found in look_up(table_VD, *ids))
    expected = sum(functional.embedding(i, table_VD).square().sum() for i in ids)
    (ours,), (theirs,) = (torch.autograd.grad(value, [table_VD]) for value in (total, expected))
    torch.testing.assert_close(ours, theirs)

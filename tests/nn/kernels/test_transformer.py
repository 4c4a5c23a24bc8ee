"""The transformer kernel on unique embeddings against the plain layer, in values and gradients."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional

from stemlab.nn.attention import TransformerLayer, causal_bias, padding_bias
from stemlab.nn.interest import SelfAttentiveExtractor, position_ids
from stemlab.nn.kernels.dispatch import kernel_mode
from stemlab.nn.kernels.embedding_lookup import UniqueEmbeddings, look_up_history
from stemlab.nn.kernels.transformer import operations_available

LENGTHS = st.lists(st.integers(1, 7), min_size=1, max_size=9)
KINDS = pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-9), (torch.float32, 2e-4)])
KERNEL = "_LayerBackward"


def assert_same(
    kernel: Callable[[], Tensor], plain: Callable[[], Tensor], leaves: Sequence[Tensor], tolerance: float
) -> None:
    """Compare values and gradients of a loss that weights every output differently."""
    one, other = kernel(), plain()
    torch.testing.assert_close(one, other, rtol=tolerance, atol=tolerance)
    weight = torch.randn(one.shape, dtype=one.dtype, generator=torch.Generator().manual_seed(1))
    found = [torch.autograd.grad((value * weight).sum(), leaves) for value in (one, other)]
    for mine, other_gradient in zip(*found, strict=True):
        torch.testing.assert_close(mine, other_gradient, rtol=tolerance, atol=tolerance)


def with_normal_weights(module: nn.Module, dtype: torch.dtype) -> nn.Module:
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.normal_(0, 0.5, generator=generator)
    return module.to(dtype)


def table(rows: int, dtype: torch.dtype) -> Tensor:
    return torch.randn(rows, 6, dtype=dtype, generator=torch.Generator().manual_seed(2)).requires_grad_()


def histories(lengths: list[int]) -> tuple[Tensor, Tensor]:
    """Return random item ids 1 to 6, right-padded with 0, and the lengths."""
    length_B = torch.tensor(lengths)
    ids = torch.randint(1, 7, (len(lengths), max(lengths)), generator=torch.Generator().manual_seed(sum(lengths)))
    return ids * (torch.arange(max(lengths)) < length_B.unsqueeze(1)), length_B


@KINDS
@settings(max_examples=30, deadline=None)
@given(lengths=LENGTHS, positions=st.booleans(), causal=st.booleans())
def test_equals_the_plain_layer(
    dtype: torch.dtype, tolerance: float, lengths: list[int], positions: bool, causal: bool
) -> None:
    layer = with_normal_weights(TransformerLayer(6), dtype)
    history_BL, length_B = histories(lengths)
    position_BL = position_ids(length_B, history_BL.shape[1])
    items, position_table = table(8, dtype), table(9, dtype)
    causal_mask = causal_bias(history_BL.shape[1], history_BL.device, dtype)
    bias = causal_mask if causal else padding_bias(history_BL, dtype)

    def plain() -> Tensor:
        x_BLD = functional.embedding(history_BL, items)
        return layer(x_BLD + functional.embedding(position_BL, position_table) if positions else x_BLD, bias)

    def kernel() -> Tensor:
        unique, _ = look_up_history(items, history_BL)
        assert isinstance(unique, UniqueEmbeddings)
        return layer.forward_unique([unique, UniqueEmbeddings(position_table, position_BL)][: 1 + positions], bias)

    assert type(kernel().grad_fn).__name__ == KERNEL
    assert_same(kernel, plain, [items, *([position_table] if positions else []), *layer.parameters()], tolerance)


def test_derivative_in_double_precision() -> None:
    layer = with_normal_weights(TransformerLayer(3), torch.float64)
    index_BL = torch.tensor([[0, 1, 1], [2, 0, 1]])
    rows, position_table = (torch.randn(3, 3, dtype=torch.float64, requires_grad=True) for _ in range(2))
    bias = padding_bias(torch.tensor([[1, 1, 0], [1, 1, 1]]), torch.float64)

    def apply(rows: Tensor, position_table: Tensor, *_: Tensor) -> Tensor:
        return layer.forward_unique(
            [UniqueEmbeddings(rows, index_BL), UniqueEmbeddings(position_table, index_BL)], bias
        )

    assert torch.autograd.gradcheck(apply, (rows, position_table, *layer.parameters()))


def test_unused_rows_get_zero_and_key_biases_exactly_zero() -> None:
    layer, rows = with_normal_weights(TransformerLayer(6), torch.float32), table(5, torch.float32)
    layer.forward_unique(
        [UniqueEmbeddings(rows, torch.tensor([[0, 2, 2]]))], torch.zeros(1, 1)
    ).square().sum().backward()
    assert rows.grad.any(dim=1).tolist() == [True, False, True, False, False]
    assert not layer.qkv.bias.grad[6:12].any()
    assert bool(layer.qkv.bias.grad[:6].all())


def test_an_unused_output_leaves_gradients_absent() -> None:
    layer, rows = TransformerLayer(6), table(2, torch.float32)
    layer.forward_unique([UniqueEmbeddings(rows, torch.tensor([[0, 1]]))], torch.zeros(1, 1))
    torch.ones(1, requires_grad=True).sum().backward()
    assert all(parameter.grad is None for parameter in [rows, *layer.parameters()])


def test_where_the_kernel_runs() -> None:
    terms, bias = [UniqueEmbeddings(torch.randn(4, 8), torch.tensor([[0, 1, 2, 3]]))], torch.zeros(1, 1)

    def runs(layer: TransformerLayer) -> bool:
        return type(layer.forward_unique(terms, bias).grad_fn).__name__ == KERNEL

    assert runs(TransformerLayer(8))
    assert runs(TransformerLayer(8, dropout=0.5).eval())
    assert not runs(TransformerLayer(8, dropout=0.5))
    assert not runs(TransformerLayer(8, heads=2))
    with kernel_mode("off"):
        assert not runs(TransformerLayer(8))
    with torch.autocast("cpu", torch.bfloat16):
        assert not runs(TransformerLayer(8))


def test_private_interfaces() -> None:
    """``torch.native_layer_norm`` and three ``torch.ops.aten`` backward operations."""
    x = torch.randn(4, 3, dtype=torch.float64, requires_grad=True)
    ones, zeros = (make(3, dtype=torch.float64) for make in (torch.ones, torch.zeros))
    normalised, mean, scale = torch.native_layer_norm(x, (3,), ones, zeros, 1e-5)
    grad = torch.randn_like(x)
    ours = torch.ops.aten.native_layer_norm_backward(grad, x, (3,), mean, scale, ones, zeros, [True] * 3)[0]
    torch.testing.assert_close(ours, torch.autograd.grad(normalised, x, grad)[0])
    soft = x.softmax(dim=1)
    ours = torch.ops.aten._softmax_backward_data(grad, soft, 1, torch.float64)
    torch.testing.assert_close(ours, torch.autograd.grad(soft, x, grad)[0])
    out = grad.clone()
    torch.ops.aten.threshold_backward.grad_input(out, x.detach(), 0, grad_input=out)
    torch.testing.assert_close(out, grad * (x > 0))


@pytest.mark.parametrize("change", [lambda *a: 2 * torch.ops.aten._softmax_backward_data(*a), None])
def test_changed_private_interfaces_turn_the_kernel_off(
    change: Callable[..., Tensor] | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert operations_available()
    monkeypatch.setattr("stemlab.nn.kernels.transformer._softmax_backward", change)
    assert not operations_available.__wrapped__()


@pytest.mark.parametrize(("transformer", "pool_raw"), [(False, True), (False, False), (True, False), (True, True)])
@pytest.mark.parametrize("mask_padding", [True, False])
def test_extractor_on_unique_embeddings(transformer: bool, pool_raw: bool, mask_padding: bool) -> None:
    extractor = SelfAttentiveExtractor(
        7, 6, 4, 3, position_embedding=True, transformer=transformer, pool_raw=pool_raw, mask_padding=mask_padding
    )
    with_normal_weights(extractor, torch.float64)
    history_BL, length_B = histories([1, 7, 3, 7])
    items = table(8, torch.float64)
    assert_same(
        lambda: extractor(look_up_history(items, history_BL)[0], history_BL, length_B),
        lambda: extractor(functional.embedding(history_BL, items), history_BL, length_B),
        [items, *extractor.parameters()],
        1e-9,
    )

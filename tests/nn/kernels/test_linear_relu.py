"""The one-node stack against the plain modules."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from stemlab.nn.kernels import linear_relu as dense
from stemlab.nn.kernels.linear_relu import dense_stack, stack_dtype
from stemlab.nn.mlp import MLP, MLPStyle

needs_product = pytest.mark.skipif(not dense._has_product(), reason="this torch or processor has no oneDNN product")


def plain(mlp: MLP, input_BI: Tensor) -> Tensor:
    return nn.Sequential.forward(mlp, input_BI)


def stack(mlp: MLP, input_BI: Tensor, dtype: torch.dtype) -> Tensor:
    linears = [layer for layer in mlp if isinstance(layer, nn.Linear)]
    ends = isinstance(list(mlp)[-1], nn.ReLU)
    return dense_stack(input_BI, [x.weight for x in linears], [x.bias for x in linears], ends, dtype)


def gradients(output: Tensor, inputs: Sequence[Tensor]) -> tuple[Tensor | None, ...]:
    return torch.autograd.grad(output.float().square().sum(), inputs, allow_unused=True)


@settings(max_examples=40, deadline=None)
@given(
    rows=st.integers(1, 40),
    width=st.integers(1, 9),
    hidden=st.lists(st.integers(1, 12), min_size=1, max_size=4),
    output=st.sampled_from([None, 1, 5]),
    frozen=st.integers(-1, 3),
    seed=st.integers(0, 2**31),
)
def test_equals_plain_modules(rows, width, hidden, output, frozen, seed):
    torch.manual_seed(seed)
    mlp = MLP(width, hidden, output, style=MLPStyle())
    parameters = list(mlp.parameters())
    wanted = [p for i, p in enumerate(parameters) if i != frozen]
    if frozen >= 0 and frozen < len(parameters):
        parameters[frozen].requires_grad_(False)
    input_BI = torch.randn(rows, width, requires_grad=frozen != 3)
    wanted += [input_BI] if input_BI.requires_grad else []
    ours, theirs = stack(mlp, input_BI, torch.float32), plain(mlp, input_BI)
    torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-5)
    for mine, other in zip(gradients(ours, wanted), gradients(theirs, wanted), strict=True):
        torch.testing.assert_close(mine, other, atol=1e-4, rtol=1e-4)
        assert mine.is_contiguous()


@pytest.mark.parametrize("output", [None, 2])
def test_derivative_in_float64(output):
    torch.manual_seed(0)
    mlp = MLP(3, [6, 5], output, style=MLPStyle()).double()

    def apply(input_BI, *parameters):
        return dense_stack(input_BI, parameters[::2], parameters[1::2], output is None, torch.float64)

    inputs = (torch.randn(7, 3, dtype=torch.double, requires_grad=True), *mlp.parameters())
    assert torch.autograd.gradcheck(apply, inputs)


def test_bf16_follows_autocast():
    torch.manual_seed(0)
    mlp, input_BI = MLP(32, [64, 64], style=MLPStyle()), torch.randn(512, 32, requires_grad=True)
    wanted = [input_BI, *mlp.parameters()]
    with torch.autocast("cpu", torch.bfloat16):
        theirs = plain(mlp, input_BI)
        ours = stack(mlp, input_BI, torch.bfloat16)
    assert ours.dtype == theirs.dtype == torch.bfloat16
    torch.testing.assert_close(ours, theirs, atol=0.02, rtol=0.02)
    for mine, other in zip(gradients(ours, wanted), gradients(theirs, wanted), strict=True):
        assert mine.dtype == other.dtype == torch.float32
        assert (mine - other).norm() < 0.01 * other.norm()


@needs_product
def test_nan_and_infinity_come_through():
    mlp, input_BI = MLP(8, [16, 4], style=MLPStyle()), torch.ones(6, 8)
    input_BI[2, 3], input_BI[4, 0] = float("nan"), float("inf")
    ours, theirs = stack(mlp, input_BI, torch.float32), plain(mlp, input_BI)
    assert ours[2].isnan().all()
    torch.testing.assert_close(ours, theirs, equal_nan=True)


def test_an_unused_output_leaves_gradients_absent():
    mlp, other = MLP(3, [4], style=MLPStyle()), torch.ones(2, requires_grad=True)

    class Drop(torch.autograd.Function):
        @staticmethod
        def forward(ctx, kept, dropped):
            return kept.sum()

        @staticmethod
        def backward(ctx, grad):
            return grad.expand(2), None

    Drop.apply(other, stack(mlp, torch.randn(5, 3), torch.float32)).backward()
    assert all(p.grad is None for p in mlp.parameters())


def test_the_incoming_gradient_is_not_overwritten():
    mlp = MLP(3, [4, 4], style=MLPStyle())
    output = stack(mlp, torch.randn(5, 3), torch.float32)
    grad = torch.randn(5, 4)
    kept = grad.clone()
    output.backward(grad)
    assert torch.equal(grad, kept)


@needs_product
def test_where_it_is_used():
    wide = torch.zeros(4096, 64)
    assert stack_dtype(wide, 512) is torch.float32
    assert stack_dtype(wide[:16], 512) is None
    assert stack_dtype(wide.double(), 512) is None
    with torch.autocast("cpu", torch.bfloat16):
        assert stack_dtype(wide, 512) is torch.bfloat16
    with torch.autocast("cpu", torch.float16):
        assert stack_dtype(wide, 512) is None


@needs_product
@pytest.mark.parametrize(
    ("style", "used"),
    [(MLPStyle(), 1), (MLPStyle("tanh"), 0), (MLPStyle(dropout=0.1), 0), (MLPStyle(batch_norm=True), 0)],
)
def test_only_plain_relu_stacks_use_it(monkeypatch, style, used):
    calls = []
    monkeypatch.setattr("stemlab.nn.mlp.dense_stack", lambda *a: calls.append(a) or dense_stack(*a))
    monkeypatch.setattr(dense, "SMALLEST", 0)
    mlp, input_BI = MLP(3, [5, 4], 2, style=style).eval(), torch.randn(6, 3)
    torch.testing.assert_close(mlp(input_BI), plain(mlp, input_BI))
    assert len(calls) == used

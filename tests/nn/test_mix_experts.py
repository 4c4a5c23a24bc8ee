"""The expert mixture against a stacked product, in values and gradients.

Legend: B batch, E experts, H width.
"""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from stemlab.nn.experts import mix_experts


def stacked(
    experts: list[Tensor], weights: list[Tensor], visible: list[list[int]], trainable: list[list[bool]]
) -> list[Tensor]:
    """Return the mixtures as a sum over a stack of experts."""
    mixtures = []
    for weight_BE, row, flags in zip(weights, visible, trainable, strict=True):
        chosen = [experts[e] if train else experts[e].detach() for e, train in zip(row, flags, strict=True)]
        mixtures.append((weight_BE.unsqueeze(2) * torch.stack(chosen, dim=1)).sum(dim=1))
    return mixtures


@st.composite
def layers(draw: st.DrawFn) -> tuple[int, int, list[list[int]], list[list[bool]]]:
    experts = draw(st.integers(1, 5))
    visible = draw(st.lists(st.lists(st.integers(0, experts - 1), min_size=1, unique=True), min_size=1, max_size=4))
    trainable = [draw(st.lists(st.booleans(), min_size=len(row), max_size=len(row))) for row in visible]
    return experts, draw(st.integers(1, 6)), visible, trainable


def gradients(mixtures: list[Tensor], inputs: list[Tensor]) -> list[Tensor | None]:
    loss = sum((i + 1) * mixture.square().sum() for i, mixture in enumerate(mixtures))
    return list(torch.autograd.grad(loss, inputs, allow_unused=True))


@settings(max_examples=40, deadline=None)
@given(layers(), st.integers(0, 2**31))
def test_mixture_equals_stacked_product(layer: tuple[int, int, list[list[int]], list[list[bool]]], seed: int) -> None:
    count, rows, visible, trainable = layer
    torch.manual_seed(seed)
    experts = [torch.randn(rows, 3, requires_grad=True) for _ in range(count)]
    weights = [torch.rand(rows, len(row), requires_grad=True) for row in visible]
    ours = mix_experts(experts, weights, visible, trainable)
    theirs = stacked(experts, weights, visible, trainable)
    torch.testing.assert_close(ours, theirs)
    for mine, plain in zip(gradients(ours, [*experts, *weights]), gradients(theirs, [*experts, *weights]), strict=True):
        assert (mine is None) == (plain is None)
        if mine is not None:
            torch.testing.assert_close(mine, plain)


def test_gate_keeps_its_gradient_for_an_expert_it_may_not_train() -> None:
    experts = [torch.ones(2, 3, requires_grad=True), torch.full((2, 3), 2.0, requires_grad=True)]
    weight_BE = torch.full((2, 2), 0.5, requires_grad=True)
    mix_experts(experts, [weight_BE], [[0, 1]], [[True, False]])[0].sum().backward()
    assert weight_BE.grad.tolist() == [[3.0, 6.0], [3.0, 6.0]]
    assert experts[0].grad.tolist() == [[0.5] * 3] * 2
    assert experts[1].grad is None


def test_only_gates_used_by_the_loss_give_gradients() -> None:
    experts = [torch.randn(4, 3, requires_grad=True) for _ in range(3)]
    weights = [torch.rand(4, 2, requires_grad=True) for _ in range(2)]
    first, _ = mix_experts(experts, weights, [[0, 2], [1, 2]], [[True, True], [True, True]])
    first.sum().backward()
    assert [e.grad is not None for e in experts] == [True, False, True]
    assert [w.grad is not None for w in weights] == [True, False]


def test_stop_gradient_changes_no_value() -> None:
    experts, weights = [torch.randn(64, 16) for _ in range(4)], [torch.rand(64, 4)]
    free = mix_experts(experts, weights, [[0, 1, 2, 3]], [[True] * 4])
    stopped = mix_experts(experts, weights, [[0, 1, 2, 3]], [[False, True, False, True]])
    assert torch.equal(free[0], stopped[0])


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_mixture_has_the_dtype_of_the_experts(dtype: torch.dtype) -> None:
    experts = [torch.ones(2, 3, dtype=dtype)]
    mixture = mix_experts(experts, [torch.ones(2, 1)], [[0]], [[True]])[0]
    assert mixture.dtype == dtype
    assert mixture.tolist() == [[1.0] * 3] * 2


def test_derivative_in_double_precision() -> None:
    torch.manual_seed(0)
    visible, trainable = [[0, 2], [2, 1, 0]], [[True, True], [False, True, True]]

    def apply(*tensors: Tensor) -> tuple[Tensor, ...]:
        return tuple(mix_experts(tensors[2:], tensors[:2], visible, [[True] * len(row) for row in visible]))

    shapes = [(5, 2), (5, 3), (5, 4), (5, 4), (5, 4)]
    tensors = [torch.rand(shape, dtype=torch.double, requires_grad=True) for shape in shapes]
    assert torch.autograd.gradcheck(apply, tensors)
    ours = mix_experts(tensors[2:], tensors[:2], visible, trainable)
    theirs = stacked(tensors[2:], tensors[:2], visible, trainable)
    torch.testing.assert_close(gradients(ours, tensors), gradients(theirs, tensors))


def test_bf16_experts_with_float32_gates() -> None:
    torch.manual_seed(0)
    experts = [torch.randn(600, 8).bfloat16().requires_grad_() for _ in range(3)]
    weights = [torch.rand(600, 3).softmax(1).requires_grad_() for _ in range(2)]
    visible, trainable = [[0, 1, 2]] * 2, [[True, False, True], [False, True, True]]
    wide = [x.detach().float().requires_grad_() for x in experts]
    ours = gradients(mix_experts(experts, weights, visible, trainable), [*experts, *weights])
    theirs = gradients(stacked(wide, weights, visible, trainable), [*wide, *weights])
    assert [x.dtype for x in ours if x is not None] == [torch.bfloat16] * 3 + [torch.float32] * 2
    for mine, plain in zip(ours, theirs, strict=True):
        assert mine is not None
        assert plain is not None
        assert (mine.float() - plain).norm() < 0.02 * plain.norm()


def test_nothing_to_mix() -> None:
    assert mix_experts([torch.ones(2, 3)], [], [], []) == []
    assert mix_experts([torch.ones(0, 3)], [torch.ones(0, 1)], [[0]], [[True]])[0].shape == (0, 3)

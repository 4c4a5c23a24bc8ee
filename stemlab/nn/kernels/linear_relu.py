"""Stacks of linear + ReLU on the processor, with oneDNN's matrix products.

``torch.nn.functional.linear`` uses MKL for float32, which on AMD processors reaches under half of what oneDNN does
(EPYC Zen 5, one thread, 4096 x 512 x 512: 108 against 238 GFLOP/s). bf16 goes through oneDNN either way. The whole
stack is one autograd node, so that the backward pass masks its gradients in place.

Legend: B rows, I input width, O output width.
"""

from __future__ import annotations

import platform
from collections.abc import Sequence
from functools import cache
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional

from stemlab.nn.kernels.dispatch import PLAIN_TYPES, is_transformed, kernels_off

_DTYPES = (torch.float32, torch.bfloat16)
# Multiplications in the first product from which it pays; below, rounding is exactly that of the plain modules.
SMALLEST = 2**22


def stack_dtype(input_BI: Tensor, width: int) -> torch.dtype | None:
    """Return the dtype in which ``dense_stack`` would compute, or None where the plain modules do it.

    Args:
        input_BI: rows.
        width: outputs of the first linear.
    """
    if input_BI.device.type != "cpu" or input_BI.dim() != 2 or input_BI.numel() * width < SMALLEST:
        return None
    if kernels_off() or is_transformed() or type(input_BI) not in PLAIN_TYPES or not _has_product():
        return None
    dtype = torch.get_autocast_dtype("cpu") if torch.is_autocast_enabled("cpu") else input_BI.dtype
    return dtype if dtype in _DTYPES else None


def dense_stack(
    input_BI: Tensor, weights: Sequence[Tensor], biases: Sequence[Tensor], relu_last: bool, dtype: torch.dtype
) -> Tensor:
    """Return linear, ReLU, linear, ReLU, ..., ending in a ReLU or in a bare linear.

    Args:
        input_BI: rows.
        weights: (O, I) of every linear.
        biases: (O,) of every linear.
        relu_last: whether the last linear has a ReLU as well.
        dtype: of the products and of the output; gradients have the dtype of what they belong to.
    """
    result: Tensor = _DenseStack.apply(relu_last, dtype, input_BI, *weights, *biases)  # type: ignore[no-untyped-call]
    return result


class _DenseStack(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, relu_last: bool, dtype: torch.dtype, input_BI: Tensor, *parameters: Tensor) -> Tensor:
        depth = len(parameters) // 2
        weights = [weight.to(dtype) for weight in parameters[:depth]]
        states = [input_BI.to(dtype)]
        for number, (weight, bias) in enumerate(zip(weights, parameters[depth:], strict=True), start=1):
            state = _product(states[-1], weight, bias.to(dtype))
            # Not fused into the product: oneDNN's ReLU turns NaN into 0 and would hide a broken run.
            states.append(state.relu_() if number < depth or relu_last else state)
        ctx.relu_last = relu_last
        ctx.set_materialize_grads(False)  # an output nobody used must leave the gradients absent, not zero
        ctx.save_for_backward(*states, *weights)
        return states[-1]

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_BO: Tensor | None) -> tuple[Tensor | None, ...]:
        if grad_BO is None:
            return (None,) * len(ctx.needs_input_grad)
        depth = len(ctx.saved_tensors) // 2
        states, weights = ctx.saved_tensors[: depth + 1], ctx.saved_tensors[depth + 1 :]
        needs = ctx.needs_input_grad[2:]
        grads: list[Tensor | None] = [None] * (2 * depth)
        grad = grad_BO.contiguous()
        for layer in reversed(range(depth)):
            if layer < depth - 1:
                torch.ops.aten.threshold_backward.grad_input(grad, states[layer + 1], 0, grad_input=grad)
            elif ctx.relu_last:
                grad = torch.ops.aten.threshold_backward(grad, states[layer + 1], 0)
            if needs[1 + layer]:
                grads[layer] = _weight_gradient(grad, states[layer])
            if needs[1 + depth + layer]:
                grads[depth + layer] = grad.sum(dim=0)
            if layer or needs[0]:
                grad = _product(grad, weights[layer].t())
        return None, None, grad if needs[0] else None, *grads


def product(left_BI: Tensor, right_OI: Tensor, bias_O: Tensor | None = None) -> Tensor:
    """Return left @ right.T + bias (B, O), by oneDNN where that serves; for use inside autograd nodes."""
    if left_BI.dtype == torch.float32 and left_BI.device.type == "cpu" and _has_product():
        return _product(left_BI, right_OI, bias_O)
    return functional.linear(left_BI, right_OI, bias_O)


def _product(left_BI: Tensor, right_OI: Tensor, bias_O: Tensor | None = None) -> Tensor:
    """Return left @ right.T + bias."""
    if left_BI.dtype != torch.float32:
        return functional.linear(left_BI, right_OI, bias_O)
    result: Tensor = torch.ops.mkldnn._linear_pointwise(left_BI, right_OI, bias_O, "none", [], "")
    return result


def _weight_gradient(grad_BO: Tensor, input_BI: Tensor) -> Tensor:
    """Return grad.T @ input."""
    if grad_BO.dtype != torch.float32:
        return grad_BO.t() @ input_BI
    return _product(grad_BO.t(), input_BI.t())


@cache
def _has_product() -> bool:
    """Whether this torch has the product, which serves torch.compile and is not documented, and it is right."""
    if platform.machine().lower() not in ("x86_64", "amd64") or not torch._C._has_mkldnn:
        return False
    left, right, bias = torch.arange(6.0).view(2, 3), torch.arange(12.0).view(4, 3), torch.arange(4.0)
    try:
        return torch.equal(_product(left, right, bias), functional.linear(left, right, bias))
    except (AttributeError, RuntimeError, TypeError):
        return False

"""Triton kernels of the expert mixture against the product of torch."""

from __future__ import annotations

import ast
import inspect

import pytest
import torch

from stemlab.nn.kernels import expert_mixture
from stemlab.nn.kernels.batched_stacks import mix_stacked
from stemlab.nn.kernels.expert_mixture import applies, mix_in_one_pass

VISIBLE = [(0, 1, 2, 3), (2, 0), (3, 1, 2)]
TRAINABLE = [(True, False, False, True), (True, True), (False, False, False)]


def test_the_kernels_are_for_gpus() -> None:
    assert not applies(torch.zeros(2, 3, 4))


def test_only_constants_of_the_kernels_have_annotations() -> None:
    """Triton evaluates annotations when it compiles a kernel: a name that it does not know is an error."""
    functions = [
        node for node in ast.walk(ast.parse(inspect.getsource(expert_mixture))) if isinstance(node, ast.FunctionDef)
    ]
    kernels = [node for node in functions if any(ast.unparse(mark) == "triton.jit" for mark in node.decorator_list)]
    assert len(kernels) == 2
    for kernel in kernels:
        for argument in kernel.args.args:
            constant = argument.arg in ("E", "K", "K2", "H2")
            assert (argument.annotation is None) != constant
            assert not constant or ast.unparse(argument.annotation) == "tl.constexpr"


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("width", [1, 20, 512, 700])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.bfloat16, 2e-2)])
@pytest.mark.parametrize("by_sample", [False, True], ids=["expert by expert", "sample by sample"])
def test_values_and_gradients(width: int, dtype: torch.dtype, tolerance: float, by_sample: bool) -> None:
    torch.manual_seed(0)
    state_EBH = torch.randn(4, 37, width, device="cuda").to(dtype)
    if by_sample:  # the memory order after the first layer of a stack
        state_EBH = state_EBH.transpose(0, 1).contiguous().transpose(0, 1)
    state_EBH.requires_grad_()
    gates = [torch.rand(37, len(experts), device="cuda").to(dtype).requires_grad_() for experts in VISIBLE]
    assert applies(state_EBH)
    found = []
    for mix in (mix_stacked, mix_in_one_pass):
        mixtures = mix(state_EBH, gates, VISIBLE, TRAINABLE)
        loss = torch.stack(mixtures).float().square().sum()
        found.append([*mixtures, *torch.autograd.grad(loss, [state_EBH, *gates])])
    for expected, ours in zip(*found, strict=True):
        assert float((ours - expected).detach().abs().max()) <= tolerance * float(expected.detach().abs().max())

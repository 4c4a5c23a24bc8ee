"""Mixtures of all gates in one pass over the outputs of the experts: Triton kernels for CUDA.

Large steps of STEM are limited by memory traffic, and products of torch read and write the outputs of the experts
several times (docs/methods/kernels.md#expert-mixture).

Legend: B batch, E experts, H expert output width, K gates.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from functools import cache
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from stemlab.nn.kernels.batched_stacks import mix_stacked
from stemlab.nn.kernels.dispatch import is_transformed

try:
    import triton
    from triton import language as tl
except ImportError:  # PyTorch for CPUs comes without Triton
    triton = None

MAX_WIDTH = 4096
"""Largest H: a program holds the mixtures of one sample in registers."""

if triton is not None:
    # only constants have annotations: Triton evaluates annotations and refuses names such as `Any`

    @triton.jit
    def _forward(
        state,
        weight,
        mixture,
        H,
        s_e,
        s_b,
        E: tl.constexpr,
        K: tl.constexpr,
        K2: tl.constexpr,
        H2: tl.constexpr,
    ) -> None:
        """Compute the mixtures of one sample; K2 and H2 are K and H rounded up to powers of two."""
        b = tl.program_id(0).to(tl.int64)
        h, k = tl.arange(0, H2), tl.arange(0, K2)
        total = tl.zeros((K2, H2), tl.float32)
        for e in tl.static_range(E):
            x = tl.load(state + e * s_e + b * s_b + h, mask=h < H, other=0.0).to(tl.float32)
            w = tl.load(weight + (b * K + k) * E + e, mask=k < K, other=0.0).to(tl.float32)
            total += w[:, None] * x[None, :]
        tl.store(mixture + (b * K + k)[:, None] * H + h[None, :], total, mask=(k < K)[:, None] & (h < H)[None, :])

    @triton.jit
    def _backward(
        state,
        trained,
        d_mixture,
        d_state,
        d_weight,
        H,
        s_e,
        s_b,
        d_e,
        d_b,
        E: tl.constexpr,
        K: tl.constexpr,
        K2: tl.constexpr,
        H2: tl.constexpr,
    ) -> None:
        """Compute the gradients of one sample; ``trained`` are the weights, zero at stop-gradients."""
        b = tl.program_id(0).to(tl.int64)
        h, k = tl.arange(0, H2), tl.arange(0, K2)
        inside = (k < K)[:, None] & (h < H)[None, :]
        d = tl.load(d_mixture + (b * K + k)[:, None] * H + h[None, :], mask=inside, other=0.0).to(tl.float32)
        for e in tl.static_range(E):
            x = tl.load(state + e * s_e + b * s_b + h, mask=h < H, other=0.0).to(tl.float32)
            w = tl.load(trained + (b * K + k) * E + e, mask=k < K, other=0.0).to(tl.float32)
            tl.store(d_weight + (b * K + k) * E + e, tl.sum(d * x[None, :], axis=1), mask=k < K)
            tl.store(d_state + e * d_e + b * d_b + h, tl.sum(w[:, None] * d, axis=0), mask=h < H)


class _Mixture(torch.autograd.Function):
    """``(E, B, H), (B, K, E), (B, K, E) -> (B, K, H)``; the last argument: the weights, zero at stop-gradients."""

    @staticmethod
    def forward(ctx: Any, state_EBH: Tensor, weight_BKE: Tensor, trained_BKE: Tensor) -> Tensor:
        ctx.save_for_backward(state_EBH, weight_BKE, trained_BKE)
        experts, samples, width = state_EBH.shape
        gates = weight_BKE.shape[1]
        mixture_BKH = state_EBH.new_empty(samples, gates, width)
        _forward[samples,](
            *(state_EBH, weight_BKE, mixture_BKH, width, state_EBH.stride(0), state_EBH.stride(1)),
            *(experts, gates, triton.next_power_of_2(gates), triton.next_power_of_2(width)),
        )
        return mixture_BKH

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_BKH: Tensor) -> tuple[Tensor | None, ...]:
        state_EBH, weight_BKE, trained_BKE = ctx.saved_tensors
        experts, samples, width = state_EBH.shape
        gates = weight_BKE.shape[1]
        d_state_EBH, d_weight_BKE = torch.empty_like(state_EBH), torch.empty_like(weight_BKE)
        _backward[samples,](
            *(state_EBH, trained_BKE, grad_BKH.contiguous(), d_state_EBH, d_weight_BKE, width),
            *(state_EBH.stride(0), state_EBH.stride(1), d_state_EBH.stride(0), d_state_EBH.stride(1)),
            *(experts, gates, triton.next_power_of_2(gates), triton.next_power_of_2(width)),
        )
        return d_state_EBH, d_weight_BKE, None


def mix_in_one_pass(
    state_EBH: Tensor,
    gate_weights: Sequence[Tensor],
    visible_experts: Sequence[Sequence[int]],
    trainable: Sequence[Sequence[bool]],
) -> list[Tensor]:
    """Return ``mix_experts`` of stacked experts. Differentiable once.

    Args:
        state_EBH: outputs of all experts, on a GPU; consecutive in H.
        gate_weights: as for ``stemlab.nn.experts.mix_experts``.
        visible_experts: as for ``mix_experts``.
        trainable: as for ``mix_experts``.
    """
    weights, trained = [], []
    for gate_BE, experts, flags in zip(gate_weights, visible_experts, trainable, strict=True):
        columns = dict(zip(experts, torch.split(gate_BE.to(state_EBH.dtype), 1, dim=1), strict=True))
        zero_B1 = state_EBH.new_zeros(len(gate_BE), 1)
        weights.append([columns.get(e, zero_B1) for e in range(len(state_EBH))])
        stopped = {e for e, flag in zip(experts, flags, strict=True) if not flag}
        trained.append([zero_B1 if e in stopped else column_B1 for e, column_B1 in enumerate(weights[-1])])
    weight_BKE, trained_BKE = (
        torch.stack([torch.cat(row, dim=1) for row in rows], dim=1) for rows in (weights, trained)
    )
    mixture_BKH: Tensor = _Mixture.apply(state_EBH, weight_BKE, trained_BKE.detach())  # type: ignore[no-untyped-call]
    return list(mixture_BKH.unbind(dim=1))


def applies(state_EBH: Tensor) -> bool:
    """Return whether ``mix_in_one_pass`` may replace ``mix_stacked`` for these outputs of experts.

    True on CUDA if Triton is installed and the kernels agree with ``mix_stacked`` on an example, which is computed once
    per dtype and device. False while torch.compile, torch.export or a torch.func transform runs.
    """
    if state_EBH.device.type != "cuda" or triton is None or is_transformed():
        return False
    _, samples, width = state_EBH.shape
    if width > MAX_WIDTH or not samples or state_EBH.stride(2) != 1:
        return False
    return _agrees(state_EBH.dtype, state_EBH.device)


@cache
def _agrees(dtype: torch.dtype, device: torch.device) -> bool:
    """Return whether the kernels give the values and gradients of ``mix_stacked`` on an example."""
    if dtype not in (torch.float32, torch.bfloat16, torch.float16):
        return False
    allowed = 1e-5 if dtype == torch.float32 else 2e-2
    try:
        difference = _largest_difference(dtype, device)
    except Exception as error:  # Triton compiles on the first call, with tools of the system that may be missing
        reason = f"{type(error).__name__}: {str(error).strip().rpartition(chr(10))[2][:200]}"
    else:
        if difference <= allowed:
            return True
        reason = f"they differ by {difference:.1g} from the products of torch"
    warnings.warn(f"mixtures of experts are computed without the Triton kernels ({reason}): slower.", stacklevel=2)
    return False


def _largest_difference(dtype: torch.dtype, device: torch.device) -> float:
    """Return the largest difference on an example, relative to the largest value of the tensor."""
    found = []
    with torch.random.fork_rng(devices=[device]), torch.enable_grad(), torch.autocast("cuda", enabled=False):
        torch.manual_seed(0)
        state_EBH = torch.randn(3, 5, 20, device=device).to(dtype).requires_grad_()
        gates = [torch.rand(5, n, device=device).to(dtype).requires_grad_() for n in (3, 2)]
        for mix in (mix_stacked, mix_in_one_pass):
            mixtures = mix(state_EBH, gates, [(0, 1, 2), (2, 0)], [(True, False, True), (True, True)])
            loss = torch.stack(mixtures).float().square().sum()
            found.append([*mixtures, *torch.autograd.grad(loss, [state_EBH, *gates])])
    return max(float((a - b).detach().abs().max() / a.detach().abs().max()) for a, b in zip(*found, strict=True))

"""Decide which form of an equation runs: plain, CPU kernel, or the form for accelerators.

``trainer.kernels`` chooses the mode: ``auto`` uses kernels where they apply, ``off`` never.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

import torch
from torch import Tensor, nn
from torch.autograd import forward_ad

KernelMode = Literal["auto", "off"]

DTYPES = (torch.float32, torch.float64)
PLAIN_TYPES = (Tensor, nn.Parameter)

_mode: KernelMode = "auto"
_device_forms = False


@contextmanager
def kernel_mode(mode: KernelMode) -> Iterator[None]:
    """Set the mode of the process (all threads) inside the block, and restore the previous one."""
    global _mode
    previous, _mode = _mode, mode
    try:
        yield
    finally:
        _mode = previous


def kernels_off() -> bool:
    """Return whether the mode is ``off``."""
    return _mode == "off"


@contextmanager
def device_forms() -> Iterator[None]:
    """Use the forms for accelerators on the CPU too, inside the block (for tests and ``stemlab.export``)."""
    global _device_forms
    previous, _device_forms = _device_forms, True
    try:
        yield
    finally:
        _device_forms = previous


def static_shapes(tensor: Tensor) -> bool:
    """Return whether shapes must not depend on values, and the host must not read values: on every accelerator.

    A CUDA graph repeats the recorded operations; a host that waits for a value also leaves the GPU idle.
    """
    return _device_forms or tensor.device.type != "cpu"


def use_batched(tensor: Tensor) -> bool:
    """Return whether products of equal shapes run as one batched product: on accelerators, except in mode ``off``."""
    return static_shapes(tensor) and not kernels_off()


def use_cpu_kernel(*tensors: Tensor) -> bool:
    """Return whether a CPU kernel may replace the plain equation for these inputs and weights.

    True for non-empty plain CPU tensors in float32 or float64, in training and in evaluation. False in mode ``off``,
    under autocast, and while torch.compile, torch.export, torch.jit.trace, a torch.func transform or forward-mode
    differentiation runs: kernels are opaque to these. False for tensor subclasses such as DTensor and FakeTensor.
    """
    if kernels_off() or torch.is_autocast_enabled("cpu") or is_transformed():
        return False
    return all(type(t) in PLAIN_TYPES and t.device.type == "cpu" and t.dtype in DTYPES and t.numel() for t in tensors)


def is_transformed() -> bool:
    """Return whether the operations are traced, compiled or transformed instead of only executed.

    Reads two private interfaces: ``torch._C._functorch.maybe_current_level`` and
    ``torch.autograd.forward_ad._current_level``.
    """
    if torch.compiler.is_compiling() or torch.jit.is_tracing():  # type: ignore[attr-defined, no-untyped-call]
        return True
    return torch._C._functorch.maybe_current_level() is not None or forward_ad._current_level >= 0

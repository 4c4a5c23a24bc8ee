"""Decide whether a CPU kernel replaces the plain equation.

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

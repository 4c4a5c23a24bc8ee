"""Precision and kernels of a command: which form of an equation runs, TF32 on GPUs, and subnormal numbers on CPUs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch

from stemlab.nn.kernels.dispatch import kernel_mode


@contextmanager
def numeric_mode(trainer: Mapping[str, Any]) -> Iterator[None]:
    """Set kernels, float32 precision and ``subnormals_flushed`` inside the block, and restore the previous state.

    Args:
        trainer: group ``trainer`` of the config; null keys have their defaults.
    """
    gpu = trainer["accelerator"] == "gpu"
    if gpu:
        # deterministic algorithms would also fill new tensors with NaN, which costs time; no result depends on it
        torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    tf32 = gpu and trainer["precision"] == "tf32"
    with kernel_mode(trainer["kernels"] or "auto"), float32_mode(tf32), subnormals_flushed():
        yield


@contextmanager
def subnormals_flushed() -> Iterator[None]:
    """Let the CPU compute with 0 in place of subnormal numbers (below 1.2e-38 in float32) inside the block.

    Weight decay makes the padding rows of embedding tables, and moments of Adam, subnormal after about 1,500 steps.
    CPUs need about a hundred times longer for each operation with such a number.

    The mode belongs to a thread, and new threads have the mode of the thread that starts them: intra-op threads of
    PyTorch that were started before the block keep theirs.
    """
    for kind in (np.float16, np.float32, np.float64, np.longdouble):
        np.finfo(kind)  # computed once; NumPy below 2.3 warns if that happens inside the block
    before = _flushes_subnormals()
    torch.set_flush_denormal(True)
    try:
        yield
    finally:
        torch.set_flush_denormal(before)


def _flushes_subnormals() -> bool:
    smallest = torch.full((1,), torch.finfo(torch.float32).tiny)
    return (smallest * 0.5).item() == 0.0


@contextmanager
def float32_mode(tf32: bool) -> Iterator[None]:
    """Set the precision of float32 matrix products, convolutions and recurrent networks on GPUs inside the block.

    PyTorch's default computes cuDNN's recurrent networks in TF32, with 10 bits of mantissa, and matrix products in
    float32.

    Args:
        tf32: whether both are computed in TF32; else both in float32.
    """
    matmul, cudnn = torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32
    _set_float32("high" if tf32 else "highest", tf32)
    try:
        yield
    finally:
        _set_float32(matmul, cudnn)


def lightning_precision(precision: str) -> Any:
    """Return Lightning's name of ``trainer.precision``: TF32 is float32 with a different setting of PyTorch."""
    return "32-true" if precision == "tf32" else precision


def _set_float32(matmul: str, cudnn: bool) -> None:
    torch.set_float32_matmul_precision(matmul)
    torch.backends.cudnn.allow_tf32 = cudnn

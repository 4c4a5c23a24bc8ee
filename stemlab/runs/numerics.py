"""Precision and kernels of a command: which form of an equation runs, and whether float32 may be rounded to TF32."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch

from stemlab.nn.kernels.dispatch import kernel_mode


@contextmanager
def numeric_mode(trainer: Mapping[str, Any]) -> Iterator[None]:
    """Set kernels and float32 precision of the process inside the block, and restore the previous ones.

    Args:
        trainer: group ``trainer`` of the config; null keys have their defaults.
    """
    gpu = trainer["accelerator"] == "gpu"
    if gpu:
        # deterministic algorithms would also fill new tensors with NaN, which costs time; no result depends on it
        torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    with kernel_mode(trainer["kernels"] or "auto"), float32_mode(tf32=gpu and trainer["precision"] == "tf32"):
        yield


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

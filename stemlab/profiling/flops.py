"""Floating-point operations of a training step, and the largest rate of matrix products on this machine."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from stemlab.lightning.module import NetModule
from stemlab.nn.kernels.dispatch import kernel_mode

_CPU_SHAPES = ((4096, 512, 512), (2048, 2048, 2048))
_GPU_SHAPES = ((8192, 8192, 8192),)
_REPEATS = 5
Product = Callable[[Tensor, Tensor], Tensor]


def step_flops(module: NetModule, batch: Any) -> dict[str, int]:
    """Return the operations of matrix products and attention in the forward and the backward pass of a batch.

    The plain equations are counted, which the kernels replace without changing the number of useful operations.
    Embedding lookups, sparse products, activations, normalisation and the optimiser are not counted.

    Args:
        module: the module, attached to a trainer; its gradients are replaced.
        batch: a training batch on the device of the module.
    """
    with (
        kernel_mode("off"),
        torch.compiler.set_stance("force_eager"),
        module.trainer.precision_plugin.forward_context(),
        FlopCounterMode(display=False) as forward,
    ):
        loss, _ = module.losses(batch)
    with FlopCounterMode(display=False) as backward:
        loss.backward()  # type: ignore[no-untyped-call]
    return {"forward": int(forward.get_total_flops()), "backward": int(backward.get_total_flops())}


@dataclass(frozen=True, slots=True)
class ProductPeak:
    """The fastest matrix product that was measured.

    Attributes:
        product: function and sizes (rows x inner x columns).
        flops_per_s: floating-point operations per second.
    """

    product: str
    flops_per_s: float


def product_peak(device: torch.device, precision: str) -> ProductPeak:
    """Return the largest rate of a matrix product in the precision of a training, with the threads of this process.

    Args:
        device: device of the training.
        precision: ``trainer.precision``; float32 may use TF32 on a GPU if the process allows it (``tf32``).
    """
    dtype = torch.bfloat16 if precision == "bf16-mixed" else torch.float32
    products: dict[str, Product] = {"torch.mm": torch.mm}
    with_onednn = torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
    if device.type == "cpu" and dtype == torch.float32 and with_onednn:
        products["oneDNN"] = onednn_product  # torch.mm uses MKL for float32, which is slower on some CPUs
    shapes = _CPU_SHAPES if device.type == "cpu" else _GPU_SHAPES
    rates = [
        ProductPeak(f"{name} {'x'.join(map(str, shape))}", _rate(product, shape, dtype, device))
        for name, product in products.items()
        for shape in shapes
    ]
    return max(rates, key=lambda rate: rate.flops_per_s)


def onednn_product(left: Tensor, right: Tensor) -> Tensor:
    """Return left @ right, computed by oneDNN."""
    product: Tensor = torch.ops.mkldnn._linear_pointwise(left, right.t(), None, "none", [], "")
    return product


def _rate(product: Product, shape: tuple[int, int, int], dtype: torch.dtype, device: torch.device) -> float:
    rows, inner, columns = shape
    left = torch.randn(rows, inner, device=device).to(dtype)
    right = torch.randn(inner, columns, device=device).to(dtype)
    best = float("inf")
    for _ in range(_REPEATS):
        _wait(device)
        started = time.perf_counter()
        product(left, right)
        _wait(device)
        best = min(best, time.perf_counter() - started)
    return 2 * rows * inner * columns / best


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)

"""Timing shared by the benchmark scripts: alternating runs, paired ratios with their spread, CPU name, product peaks.

    wall, cpu = alternate({"stemlab": ours, "published code": theirs}, rounds=9)
    paired_ratio(wall["published code"], wall["stemlab"])     # {"median": ..., "low": ..., "high": ...}

A result file holds ``machine(threads)`` and ``rows``, a list of ``row(...)``: rows of the table of docs/benchmarks.md.
"""

from __future__ import annotations

import argparse
import os
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from stemlab.reporting.record import hardware

Seconds = dict[str, list[float]]
"""Name of a variant -> seconds, one value per round."""
Spread = dict[str, float]
"""``median``, ``low`` and ``high`` (quartiles) of the rounds."""
LAYER = (4096, 512, 512)
"""Rows, inner and columns of the product of an expert's layer: batch 4096, 512 units."""
PEAK_SHAPES = (LAYER, (2048, 2048, 2048))
_EXTENSIONS = {"amx_tile": "AMX", "avx512_bf16": "AVX-512 BF16", "avx512f": "AVX-512", "avx2": "AVX2"}


def cpu_name() -> str:
    """Return the CPU's name with family, model number and best vector extension; virtual machines hide the product."""
    name = str(hardware(processes=1)["cpu"])
    if not Path("/proc/cpuinfo").is_file():
        return name
    lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").split("\n\n")[0].splitlines()
    found = {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in lines)}
    flags = found.get("flags", "").split()
    extension = next((f", {word}" for flag, word in _EXTENSIONS.items() if flag in flags), "")
    if "cpu family" not in found:
        return name
    return f"{name} (family {found['cpu family']}, model {found['model']}{extension})"


def machine(threads: int) -> dict[str, Any]:
    """Return what a result depends on: CPU, cores of this process, threads, PyTorch, other load (1 minute average)."""
    return {
        "cpu": cpu_name(),
        "cores": len(os.sched_getaffinity(0)),
        "threads": threads,
        "torch": torch.__version__,
        "load_average": round(os.getloadavg()[0], 2),
    }


def alternate(
    acts: Mapping[str, Callable[[], object]], rounds: int, warmup: int = 2, calls: int = 1
) -> tuple[Seconds, Seconds]:
    """Return wall-clock seconds and CPU seconds of all threads per call; variants take turns in every round.

    Args:
        acts: Name of a variant -> what is timed.
        rounds: Timed rounds.
        warmup: Rounds before them that are not timed.
        calls: Calls of a variant per round.
    """
    wall: Seconds = {name: [] for name in acts}
    cpu: Seconds = {name: [] for name in acts}
    for number in range(rounds + warmup):
        for name, act in acts.items():
            started = time.perf_counter(), time.process_time()
            for _ in range(calls):
                act()
            if number >= warmup:
                wall[name].append((time.perf_counter() - started[0]) / calls)
                cpu[name].append((time.process_time() - started[1]) / calls)
    return wall, cpu


def add_clock(parser: argparse.ArgumentParser) -> None:
    """Add the option ``--clock``, the seconds that ``pick`` returns."""
    text = "seconds of the ratios; cpu, with --threads 1, on a machine that others use as well"
    parser.add_argument("--clock", choices=("wall", "cpu"), default="wall", help=text)


def pick(clock: str, wall: Seconds, cpu: Seconds) -> tuple[Seconds, str]:
    """Return the seconds of the ratios and what a row says about them."""
    return (cpu, ", CPU time") if clock == "cpu" else (wall, "")


def spread(values: Sequence[float]) -> Spread:
    """Return median and quartiles."""
    if len(values) == 1:
        return {"median": values[0], "low": values[0], "high": values[0]}
    low, median, high = statistics.quantiles(values, n=4, method="inclusive")
    return {"median": median, "low": low, "high": high}


def paired_ratio(slower: Sequence[float], faster: Sequence[float]) -> Spread:
    """Return median and quartiles of the ratios of each round: above 1, the second variant is faster."""
    return spread([a / b for a, b in zip(slower, faster, strict=True)])


def row(what: str, baseline: str, ratio: Spread, unit: str = "x") -> dict[str, Any]:
    """Return a row of the table: unit ``x`` (times faster) or ``%`` (share of a peak or of another time)."""
    return {"what": what, "baseline": baseline, "ratio": ratio, "unit": unit}


def onednn_product(left: Tensor, right: Tensor) -> Tensor:
    """Return left @ right by oneDNN; ``torch.mm`` uses MKL for float32."""
    return torch.ops.mkldnn._linear_pointwise(left, right.t(), None, "none", [], "")


def product_rate(product: Callable[[Tensor, Tensor], Tensor], dtype: torch.dtype, shape: tuple[int, int, int]) -> float:
    """Return the best of 20 products in GFLOP/s."""
    rows, inner, columns = shape
    left, right = torch.randn(rows, inner).to(dtype), torch.randn(inner, columns).to(dtype)
    best = float("inf")
    for _ in range(20):
        started = time.perf_counter()
        product(left, right)
        best = min(best, time.perf_counter() - started)
    return 2 * rows * inner * columns / best / 1e9


def product_peaks() -> dict[str, dict[str, float]]:
    """Return dtype -> library and shape of the product -> GFLOP/s, with the current number of threads."""
    found: dict[str, dict[str, float]] = {"float32": {}, "bf16": {}}
    for shape in PEAK_SHAPES:
        size = "x".join(map(str, shape))
        found["float32"][f"torch.mm {size}"] = product_rate(torch.mm, torch.float32, shape)
        found["float32"][f"oneDNN {size}"] = product_rate(onednn_product, torch.float32, shape)
        found["bf16"][f"torch.mm {size}"] = product_rate(torch.mm, torch.bfloat16, shape)
    return found


def layer_peak(peaks: Mapping[str, Mapping[str, float]], dtype: str) -> tuple[str, float]:
    """Return the fastest product of an expert's layer (4096x512x512) in a dtype: name and GFLOP/s."""
    size = "x".join(map(str, LAYER))
    return max(((name, rate) for name, rate in peaks[dtype].items() if name.endswith(size)), key=lambda pair: pair[1])

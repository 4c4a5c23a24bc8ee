"""STEM's training step at the size of the released TikTok run: stemlab and a plain twin, alternately, in one process.

    python scripts/bench/step.py                  # vocabularies of the 200,000-row sample
    python scripts/bench/step.py --tables large   # 0.6 million users, 1.8 million items: the tables dominate the step

8 fields x 16, 10 experts 512-512-512, gate [128, 64], tower [128, 64], batch 4096. Peaks are the rates of
``torch.mm`` on this machine in the same run, and for float32 also that of oneDNN (``torch.mm`` uses MKL). CPU time
per thread is reported as well; other load disturbs it less than wall-clock time. Writes
``results/step.json`` (``--output`` for another).
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import statistics
import time
from collections.abc import Callable
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import Any

import torch
from stem_twin import PlainStem, plain_step
from torch import Tensor

from stemlab.data.batch import ImpressionBatch
from stemlab.models.multitask.stem import STEM
from stemlab.nn.loss import task_losses
from stemlab.optim import OptimConfig, PenalisedAdam, Penalty, build_optimizer, clip_gradients

FIELDS = ("uid", "item_id", "author_id", "item_city", "channel", "music_id", "device_id", "video_duration")
TABLES = {
    "sample": (5_000, 6_000, 3_000, 300, 6, 4_000, 5_000, 60),
    "large": (560_264, 1_760_000, 300_000, 400, 7, 80_000, 70_000, 100),
}
TASKS = ("finish", "like")
BATCH, DIM, PENALTY = 4096, 16, 1e-6
EXPERTS, EXPERT, GATE, TOWER = 10, (512, 512, 512), (128, 64), (128, 64)
Step = Callable[[], float]


def make_batch(sizes: tuple[int, ...]) -> tuple[Tensor, Tensor]:
    """Return skewed ids (B, F) and labels (B, T)."""
    draw = torch.rand(BATCH, len(sizes)) ** 3
    ids_BF = (1 + draw * (torch.tensor(sizes) - 1)).long().clamp_max(torch.tensor(sizes) - 1)
    return ids_BF, (torch.rand(BATCH, len(TASKS)) < torch.tensor([0.37, 0.05])).float()


def make_stem(sizes: tuple[int, ...]) -> STEM:
    return STEM(
        dict(zip(FIELDS, sizes, strict=True)),
        TASKS,
        embedding_dim=DIM,
        num_layers=1,
        num_shared_experts=EXPERTS - len(TASKS),
        num_specific_experts=1,
        expert_hidden_units=list(EXPERT),
        gate_hidden_units=list(GATE),
        tower_hidden_units=list(TOWER),
        net_dropout=0.0,
        batch_norm=False,
        hidden_activations="relu",
        gate="aftb",
        gate_input="sum",
        tables="shared+specific",
    )


def our_step(net: STEM, adam: PenalisedAdam, batch: ImpressionBatch, half: bool) -> float:
    adam.zero_grad()
    with torch.autocast("cpu", torch.bfloat16) if half else nullcontext():
        logit_BT = net(batch).logit_BT
    loss = task_losses(logit_BT, batch.labels_BT).sum()
    loss.backward()
    clip_gradients(adam, 10.0)
    adam.step()
    return float(loss.detach())


def twin_step(net: PlainStem, adam: torch.optim.Adam, ids_BF: Tensor, labels_BT: Tensor, half: bool) -> float:
    with torch.autocast("cpu", torch.bfloat16) if half else nullcontext():
        return plain_step(net, adam, ids_BF, labels_BT, PENALTY)


def make_steps(sizes: tuple[int, ...]) -> dict[str, Step]:
    ids_BF, labels_BT = make_batch(sizes)
    batch = ImpressionBatch(ids_BF, labels_BT)
    steps: dict[str, Step] = {}
    for name, half in (("float32", False), ("bf16", True)):
        net = make_stem(sizes)
        adam = build_optimizer(net, OptimConfig(lr=1e-3), Penalty(l2=PENALTY), Penalty())
        steps[f"stemlab {name}"] = partial(our_step, net, adam, batch, half)
        twin = PlainStem(sizes)
        steps[f"twin {name}"] = partial(
            twin_step, twin, torch.optim.Adam(twin.parameters(), lr=1e-3), ids_BF, labels_BT, half
        )
    return steps


Samples = dict[str, list[float]]


def measure(steps: dict[str, Step], rounds: int) -> tuple[Samples, Samples]:
    """Return wall-clock and CPU seconds per step; variants take turns, so other load affects them alike."""
    wall: Samples = {name: [] for name in steps}
    cpu: Samples = {name: [] for name in steps}
    for number in range(rounds + 2):
        for name, step in steps.items():
            started = time.perf_counter(), time.process_time()
            step()
            if number >= 2:
                wall[name].append(time.perf_counter() - started[0])
                cpu[name].append((time.process_time() - started[1]) / torch.get_num_threads())
    return wall, cpu


def peak(product: Callable[[Tensor, Tensor], Tensor], dtype: torch.dtype, shape: tuple[int, int, int]) -> float:
    """Return the best of 20 products in GFLOP/s."""
    rows, inner, columns = shape
    left, right = torch.randn(rows, inner).to(dtype), torch.randn(inner, columns).to(dtype)
    best = float("inf")
    for _ in range(20):
        started = time.perf_counter()
        product(left, right)
        best = min(best, time.perf_counter() - started)
    return 2 * rows * inner * columns / best / 1e9


def onednn_product(left: Tensor, right: Tensor) -> Tensor:
    """Return left @ right by oneDNN; ``torch.mm`` uses MKL for float32."""
    return torch.ops.mkldnn._linear_pointwise(left, right.t(), None, "none", [], "")


def peaks() -> dict[str, dict[str, float]]:
    """Return dtype -> product -> GFLOP/s."""
    found: dict[str, dict[str, float]] = {"float32": {}, "bf16": {}}
    for shape in ((BATCH, 512, 512), (2048, 2048, 2048)):
        size = "x".join(map(str, shape))
        found["float32"][f"torch.mm {size}"] = peak(torch.mm, torch.float32, shape)
        found["float32"][f"oneDNN {size}"] = peak(onednn_product, torch.float32, shape)
        found["bf16"][f"torch.mm {size}"] = peak(torch.mm, torch.bfloat16, shape)
    return found


def step_gflop(fields: int) -> float:
    """Return the GFLOP of one step's matrix products (one forward, two backward), without the unused shared gate."""
    width = fields * DIM

    def stack(first: int, hidden: tuple[int, ...], *last: int) -> int:
        widths = (first, *hidden, *last)
        return sum(a * b for a, b in itertools.pairwise(widths))

    per_task = stack(width, GATE, EXPERTS) + stack(EXPERT[-1], TOWER, 1)
    return 6 * BATCH * (EXPERTS * stack(width, EXPERT) + len(TASKS) * per_task) / 1e9


def report(wall: Samples, cpu: Samples, sizes: tuple[int, ...], options: argparse.Namespace) -> dict[str, Any]:
    median = {name: statistics.median(values) for name, values in wall.items()}
    work = {name: statistics.median(values) for name, values in cpu.items()}
    ours = {dtype: f"stemlab {dtype}" for dtype in ("float32", "bf16")}
    gflop, best = step_gflop(len(sizes)), peaks()
    rate = {dtype: gflop / median[name] for dtype, name in ours.items()}
    return {
        "tables": options.tables,
        "rows": sum(sizes),
        "threads": options.threads,
        "rounds": options.rounds,
        "torch": torch.__version__,
        "load_average": os.getloadavg()[0],
        "median_s": median,
        "min_s": {name: min(values) for name, values in wall.items()},
        "cpu_s_per_thread": work,
        "times_faster_than_twin_float32": {d: median["twin float32"] / median[name] for d, name in ours.items()},
        "times_less_cpu_time": {d: work["twin float32"] / work[name] for d, name in ours.items()},
        "times_faster_than_twin_bf16": median["twin bf16"] / median["stemlab bf16"],
        "samples_per_s": {name: BATCH / value for name, value in median.items()},
        "gflop_per_step": gflop,
        "gflop_per_s": rate,
        "peak_gflop_per_s": best,
        "fraction_of_peak": {d: {name: rate[d] / value for name, value in best[d].items()} for d in ours},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tables", choices=TABLES, default="sample")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--output", type=Path, default=Path(__file__).parent / "results" / "step.json")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    torch.manual_seed(0)
    sizes = TABLES[arguments.tables]
    result = report(*measure(make_steps(sizes), arguments.rounds), sizes, arguments)
    arguments.output.parent.mkdir(parents=True, exist_ok=True)
    arguments.output.write_text(json.dumps(result, indent=2) + "\n")
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()

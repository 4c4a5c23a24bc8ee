"""Training step of STEM, MMoE or PLE at the published size: stemlab, a plain twin and the published code alternate.

    python scripts/bench/step.py                            # STEM; vocabularies of the 200,000-row sample
    python scripts/bench/step.py --tables large --precision float32   # 2.8 million embedding rows; 2 GB per variant
    python scripts/bench/step.py --model ple --published DIR    # DIR: checkout of LiangcaiSu/STEM (docs/benchmarks.md)
    python scripts/bench/step.py --floor --threads 1 --clock cpu --rounds 5     # share of the products, under load too

8 fields x 16, 8 shared experts and one per task (MMoE: 8) of 512-512-512, gate [128, 64], tower [128, 64], batch 4096,
all variants in one process with the memory setting of the trainer. Rows compare equal precisions and, beside them, bf16
with float32. Shares of the peak refer to the fastest product of an expert's layer on this machine in the same run; they
need a machine without other load, so ``--clock cpu`` leaves them out. ``--floor`` also times the matrix products of the
step alone, with the shapes of its layers: a step takes at least that time, whatever surrounds the products. Only STEM
has a twin. Writes ``results/step.json`` (``--output`` for another).
"""

from __future__ import annotations

import argparse
import json
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import Any

import published
import timing
import torch
from stem_twin import PlainStem, plain_step
from torch import Tensor, nn

from stemlab.data.batch import ImpressionBatch
from stemlab.models.multitask.base import TabularNet
from stemlab.models.multitask.mmoe import MMoE
from stemlab.models.multitask.ple import PLE
from stemlab.models.multitask.stem import STEM
from stemlab.nn.loss import task_losses
from stemlab.optim import OptimConfig, PenalisedAdam, Penalty, build_optimizer, clip_gradients
from stemlab.runs.allocator import keep_freed_memory

FIELDS = ("uid", "item_id", "author_id", "item_city", "channel", "music_id", "device_id", "video_duration")
TABLES = {
    "sample": (5_000, 6_000, 3_000, 300, 6, 4_000, 5_000, 60),
    "large": (560_264, 1_760_000, 300_000, 400, 7, 80_000, 70_000, 100),
}
TASKS = ("finish", "like")
BATCH, PENALTY = 4096, 1e-6
EXPERTS = {"num_layers": 1, "num_shared_experts": 8, "num_specific_experts": 1}
MODELS: dict[str, tuple[type[TabularNet], str, dict[str, Any]]] = {
    "stem": (STEM, "STEM", EXPERTS),
    "mmoe": (MMoE, "MMoE", {"num_experts": 8}),
    "ple": (PLE, "PLE", EXPERTS),
}
"""Option -> class, name of the published class, settings that both have."""
PRECISIONS = ("float32", "bf16")
Step = Callable[[], float]


def make_batch(sizes: tuple[int, ...]) -> tuple[Tensor, Tensor]:
    """Return skewed ids (B, F) and labels (B, T)."""
    draw = torch.rand(BATCH, len(sizes)) ** 3
    ids_BF = (1 + draw * (torch.tensor(sizes) - 1)).long().clamp_max(torch.tensor(sizes) - 1)
    return ids_BF, (torch.rand(BATCH, len(TASKS)) < torch.tensor([0.37, 0.05])).float()


def net_settings(model: str) -> dict[str, Any]:
    """Return the settings of stemlab's and of the published class."""
    widths = {"expert_hidden_units": [512] * 3, "gate_hidden_units": [128, 64], "tower_hidden_units": [128, 64]}
    return {"embedding_dim": 16, "hidden_activations": "relu", "net_dropout": 0.0} | widths | MODELS[model][2]


def make_net(model: str, sizes: tuple[int, ...]) -> TabularNet:
    return MODELS[model][0](dict(zip(FIELDS, sizes, strict=True)), TASKS, **net_settings(model))


def our_step(net: TabularNet, adam: PenalisedAdam, batch: ImpressionBatch, half: bool) -> float:
    adam.zero_grad()
    with torch.autocast("cpu", torch.bfloat16) if half else nullcontext():
        logit_BT = net(batch).logit_BT
    assert batch.labels_BT is not None
    loss = task_losses(logit_BT, batch.labels_BT).sum()
    loss.backward()
    clip_gradients(adam, 10.0)
    adam.step()
    return float(loss.detach())


def twin_step(net: PlainStem, adam: torch.optim.Adam, ids_BF: Tensor, labels_BT: Tensor, half: bool) -> float:
    with torch.autocast("cpu", torch.bfloat16) if half else nullcontext():
        return plain_step(net, adam, ids_BF, labels_BT, PENALTY)


def make_steps(
    sizes: tuple[int, ...],
    model: str = "stem",
    folder: Path | None = None,
    precisions: Sequence[str] = PRECISIONS,
) -> dict[str, Step]:
    """Return variant -> training step."""
    ids_BF, labels_BT = make_batch(sizes)
    batch = ImpressionBatch(ids_BF, labels_BT)
    steps: dict[str, Step] = {}
    for precision in precisions:
        half = precision == "bf16"
        net = make_net(model, sizes)
        adam = build_optimizer(net, OptimConfig(lr=1e-3), Penalty(l2=PENALTY), Penalty())
        steps[f"stemlab {precision}"] = partial(our_step, net, adam, batch, half)
        if model == "stem":
            twin = PlainStem(sizes)
            theirs = torch.optim.Adam(twin.parameters(), lr=1e-3)
            steps[f"twin {precision}"] = partial(twin_step, twin, theirs, ids_BF, labels_BT, half)
        if folder is not None:
            named, settings = dict(zip(FIELDS, sizes, strict=True)), net_settings(model)
            settings["embedding_regularizer"] = PENALTY
            step = published.multitask_step(folder, MODELS[model][1], named, settings, (ids_BF, labels_BT), half)
            steps[f"published {precision}"] = step
    return steps


def layer_shapes(model: str, sizes: tuple[int, ...]) -> Counter[tuple[int, ...]]:
    """Return (outputs, inputs) -> number of linear layers of that shape which get a gradient."""
    net = make_net(model, (2,) * len(sizes))
    batch = ImpressionBatch(torch.ones(2, len(sizes), dtype=torch.long), torch.ones(2, len(TASKS)))
    net(batch).logit_BT.sum().backward()
    layers = (m for m in net.modules() if isinstance(m, nn.Linear) and m.weight.grad is not None)
    return Counter(tuple(layer.weight.shape) for layer in layers)


def step_gflop(shapes: Counter[tuple[int, ...]]) -> float:
    """Return the GFLOP of one step's linear layers: one product forward, two backward."""
    return 6 * BATCH * sum(number * outputs * inputs for (outputs, inputs), number in shapes.items()) / 1e9


def products_only(shapes: Counter[tuple[int, ...]], dtype: torch.dtype) -> Step:
    """Return a function that computes the products of a step on random matrices, with separate weights per layer."""
    layers = []
    for (outputs, inputs), number in shapes.items():
        input_BI, grad_BO = torch.randn(BATCH, inputs).to(dtype), torch.randn(BATCH, outputs).to(dtype)
        layers += [(input_BI, grad_BO, torch.randn(outputs, inputs).to(dtype)) for _ in range(number)]

    def products() -> float:
        for input_BI, _, weight_OI in layers:
            nn.functional.linear(input_BI, weight_OI)
        for input_BI, grad_BO, weight_OI in reversed(layers):
            grad_BO.mm(weight_OI)
            grad_BO.t().mm(input_BI)
        return 0.0

    return products


def rows(
    model: str, tables: int, clock: str, wall: timing.Seconds, gflop: float, peaks: dict[str, dict[str, float]]
) -> Any:
    """Return the rows of the table."""
    what = f"{MODELS[model][1]} step, {tables:,} embedding rows{clock}"
    found = []
    precisions = [kind for kind in PRECISIONS if f"stemlab {kind}" in wall]
    for base, code in (("published", "published code"), ("twin", "twin of the published code")):
        for precision, against in (("float32", "float32"), ("bf16", "bf16"), ("bf16", "float32")):
            if precision in precisions and f"{base} {against}" in wall:
                ratio = timing.paired_ratio(wall[f"{base} {against}"], wall[f"stemlab {precision}"])
                found.append(timing.row(f"{what}, {precision}", f"{code}, {against}", ratio))
    for precision in precisions:
        if f"published {precision}" in wall and f"twin {precision}" in wall:
            ratio = timing.paired_ratio(wall[f"published {precision}"], wall[f"twin {precision}"])
            found.append(timing.row(f"twin of the {what}, {precision}", f"published code, {precision}", ratio))
    for precision in precisions if peaks else ():
        name, rate = timing.layer_peak(peaks, precision)
        share = timing.spread([gflop / seconds / rate for seconds in wall[f"stemlab {precision}"]])
        found.append(timing.row(f"{what}, {precision}, products per second", f"peak of this CPU ({name})", share, "%"))
    return found + floor_rows(what, wall, gflop, peaks)


def floor_rows(what: str, wall: timing.Seconds, gflop: float, peaks: dict[str, dict[str, float]]) -> list[Any]:
    """Return the time of the products as a share of the step, and the share of the peak that their shapes allow."""
    found = []
    for precision in PRECISIONS:
        if (products := wall.get(f"products {precision}")) is None:
            continue
        share = timing.paired_ratio(products, wall[f"stemlab {precision}"])
        found.append(timing.row(f"products of the {what}, {precision}, without the step", "whole step", share, "%"))
        if peaks:
            name, rate = timing.layer_peak(peaks, precision)
            allowed = timing.spread([gflop / seconds / rate for seconds in products])
            text = f"products of the {what}, {precision}, per second"
            found.append(timing.row(text, f"peak of this CPU ({name})", allowed, "%"))
    return found


def report(options: argparse.Namespace) -> dict[str, Any]:
    sizes = TABLES[options.tables]
    steps = make_steps(sizes, options.model, options.published, options.precision)
    shapes = layer_shapes(options.model, sizes)
    for precision in options.precision if options.floor else ():
        steps[f"products {precision}"] = products_only(shapes, torch.bfloat16 if precision == "bf16" else torch.float32)
    gflop = step_gflop(shapes)
    before = {} if options.clock == "cpu" else timing.product_peaks()
    wall, cpu = timing.alternate(steps, options.rounds, warmup=1)
    seconds, clock = timing.pick(options.clock, wall, cpu)
    after = timing.product_peaks() if before else {}
    peaks = {kind: {name: max(rate, after[kind][name]) for name, rate in before[kind].items()} for kind in before}
    return {
        "machine": timing.machine(options.threads),
        "model": options.model,
        "embedding_rows": sum(sizes),
        "rounds": options.rounds,
        "seconds": {name: timing.spread(values) for name, values in wall.items()},
        "cpu_seconds": {name: timing.spread(values) for name, values in cpu.items()},
        "gflop_per_step": gflop,
        "peak_gflop_per_s": peaks,
        "rows": rows(options.model, sum(sizes), clock, seconds, gflop, peaks),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", choices=MODELS, default="stem")
    parser.add_argument("--tables", choices=TABLES, default="sample")
    parser.add_argument("--precision", choices=PRECISIONS, nargs="+", default=PRECISIONS)
    parser.add_argument("--floor", action="store_true", help="time the products of the step alone as well")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--threads", type=int, default=2)
    timing.add_clock(parser)
    parser.add_argument("--published", type=Path, metavar="DIR", help="checkout of LiangcaiSu/STEM, timed as well")
    parser.add_argument("--output", type=Path, default=Path(__file__).parent / "results" / "step.json")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    torch.manual_seed(0)
    keep_freed_memory()
    result = report(arguments)
    arguments.output.parent.mkdir(parents=True, exist_ok=True)
    arguments.output.write_text(json.dumps(result, indent=2) + "\n")
    print(json.dumps(result["rows"], indent=2))


if __name__ == "__main__":
    main()

"""Training step and scoring of MMFI at AliExpress size: stemlab and a plain twin, alternately, in one process.

    python scripts/bench/mmfi_step.py

Batch 2048 with 4 scenarios, 16 categorical fields, 23 + 40 numerical columns, embedding width 16, 2 tasks, hard mask.
Variants: ``twin`` (``mmfi_twin.py``) has the loops of the released code over scenarios, tasks and experts, and passes
each sample through the modules of all scenarios; ``stemlab published`` (``published=true``) computes the same values;
``stemlab`` is the default; ``stemlab kernels off`` is the default with the plain equations (``trainer.kernels=off``).
Training is a whole step with Adam and weight decay 1e-6. Peak memory is measured in separate processes: the growth of
resident memory during three steps (or three scored batches). Writes ``results/mmfi_step.json`` (see ``--output``).
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from mmfi_twin import PlainMMFI, plain_step
from torch import Tensor

from stemlab.data.batch import ImpressionBatch
from stemlab.data.spec import ImpressionSizes
from stemlab.models.multiscenario.mmfi import MMFI
from stemlab.nn.kernels.dispatch import KernelMode, kernel_mode
from stemlab.nn.loss import task_losses
from stemlab.optim import OptimConfig, PenalisedAdam, Penalty, build_optimizer

BATCH, DECAY = 2048, 1e-6
COUNTRIES, TASKS = ("nl", "es", "fr", "us"), ("click", "conversion")
SHARES = (0.19, 0.35, 0.29, 0.17)  # approximate shares of training samples
FIELDS = (12, 8, 8, 10, 500, 500, 40, 60, 2_000, 90, 400, 5_000, 30, 20, 20, 300)
USER, ITEM = 23, 40
VARIANTS = ("stemlab", "stemlab kernels off", "stemlab published", "twin")
Act = Callable[[], object]


def make_batch() -> tuple[ImpressionBatch, Tensor]:
    """Return a batch, and ids for the twin with the scenario as column 0."""
    scenario_B = torch.multinomial(torch.tensor(SHARES), BATCH, replacement=True)
    ids_BF = torch.stack([torch.randint(1, rows, (BATCH,)) for rows in FIELDS], dim=1)
    labels_BT = (torch.rand(BATCH, len(TASKS)) < torch.tensor([0.03, 0.005])).to(torch.int8)
    batch = ImpressionBatch(ids_BF, labels_BT, torch.rand(BATCH, USER + ITEM), scenario_B.int())
    return batch, torch.cat([scenario_B[:, None], ids_BF], dim=1)


def make_net(published: bool) -> MMFI:
    parts = {f"x{n}": "user" if n < USER else "item" for n in range(USER + ITEM)}
    fields = {f"c{n}": rows for n, rows in enumerate(FIELDS)}
    return MMFI(ImpressionSizes(fields, parts, COUNTRIES), TASKS, embedding_dim=16, published=published)


def our_step(net: MMFI, adam: PenalisedAdam, batch: ImpressionBatch) -> None:
    adam.zero_grad()
    assert batch.labels_BT is not None
    task_losses(net.train()(batch).logit_BT, batch.labels_BT).mean().backward()
    adam.step()


@torch.no_grad()
def our_score(net: MMFI, batch: ImpressionBatch) -> Tensor:
    return net.eval()(batch).logit_BT.sigmoid()


@torch.no_grad()
def twin_score(net: PlainMMFI, ids: Tensor, dense: Tensor) -> list[Tensor]:
    return net.eval()(ids, dense)


def acts(variant: str) -> dict[str, Act]:
    """Return the training step and the scoring of one batch of a variant."""
    torch.manual_seed(0)
    batch, ids = make_batch()
    if variant == "twin":
        assert batch.labels_BT is not None
        assert batch.dense_BN is not None
        twin = PlainMMFI([len(COUNTRIES), *FIELDS], USER, ITEM, len(TASKS))
        adam, inputs = torch.optim.Adam(twin.parameters(), lr=1e-3, weight_decay=DECAY), (ids, batch.dense_BN)
        labels = batch.labels_BT.float()
        return {
            "training": lambda: plain_step(twin.train(), adam, inputs, labels),
            "evaluation": partial(twin_score, twin, *inputs),
        }
    net = make_net(published=variant == "stemlab published")
    ours = build_optimizer(net, OptimConfig(lr=1e-3), Penalty(l2=DECAY), Penalty(l2=DECAY))
    mode: KernelMode = "off" if variant == "stemlab kernels off" else "auto"
    chosen: dict[str, Act] = {
        "training": partial(our_step, net, ours, batch),
        "evaluation": partial(our_score, net, batch),
    }
    return {name: partial(in_mode, mode, act) for name, act in chosen.items()}


def in_mode(mode: KernelMode, act: Act) -> object:
    with kernel_mode(mode):
        return act()


def measure(rounds: int) -> dict[str, dict[str, Any]]:
    """Return act -> summary of seconds; variants alternate, so other load on the machine affects all of them."""
    every = {variant: acts(variant) for variant in VARIANTS}
    found: dict[str, dict[str, Any]] = {}
    for act in ("training", "evaluation"):
        wall: dict[str, list[float]] = {variant: [] for variant in VARIANTS}
        work: dict[str, list[float]] = {variant: [] for variant in VARIANTS}
        for number in range(rounds + 1):
            for variant in VARIANTS:
                started = time.perf_counter(), time.process_time()
                every[variant][act]()
                if number:
                    wall[variant].append(time.perf_counter() - started[0])
                    work[variant].append((time.process_time() - started[1]) / torch.get_num_threads())
        found[act] = summary(wall, work)
    return found


def summary(wall: dict[str, list[float]], work: dict[str, list[float]]) -> dict[str, Any]:
    median = {variant: statistics.median(values) for variant, values in wall.items()}
    cpu = {variant: statistics.median(values) for variant, values in work.items()}
    others = [variant for variant in VARIANTS if variant != "twin"]
    return {
        "median_s": median,
        "min_s": {variant: min(values) for variant, values in wall.items()},
        "cpu_s_per_thread": cpu,
        "rows_per_s": {variant: BATCH / value for variant, value in median.items()},
        "times_faster_than_twin": {variant: median["twin"] / median[variant] for variant in others},
        "saved_by_kernels": 1 - cpu["stemlab"] / cpu["stemlab kernels off"],
        "times_less_cpu_time": {variant: cpu["twin"] / cpu[variant] for variant in others},
    }


def peak(variant: str, act: str) -> int:
    """Return the peak growth of resident memory in bytes over three calls; run it in a separate process."""
    chosen = acts(variant)[act]
    before = int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()
    for _ in range(3):
        chosen()
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 - before


def peaks(threads: int) -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = {}
    for act in ("training", "evaluation"):
        grown = {}
        for variant in VARIANTS:
            command = [sys.executable, __file__, "--threads", str(threads), "--peak", variant, act]
            grown[variant] = int(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
        shares = {variant: grown[variant] / grown["twin"] for variant in VARIANTS if variant != "twin"}
        found[act] = {"peak_bytes": grown, "share_of_twin": shares}
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--peak", nargs=2, metavar=("VARIANT", "ACT"), help="print one peak; used by this script")
    parser.add_argument("--output", type=Path, default=Path(__file__).parent / "results" / "mmfi_step.json")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    if arguments.peak:
        print(peak(*arguments.peak))
        return
    sizes = {"batch": BATCH, "scenarios": len(COUNTRIES), "tasks": len(TASKS), "fields": len(FIELDS)}
    sizes |= {"numericals": USER + ITEM, "embedding_dim": 16}
    machine = {"threads": arguments.threads, "rounds": arguments.rounds, "torch": torch.__version__}
    machine["load_average"] = os.getloadavg()[0]
    memory, speed = peaks(arguments.threads), measure(arguments.rounds)
    result = sizes | machine | {act: speed[act] | memory[act] for act in speed}
    arguments.output.parent.mkdir(parents=True, exist_ok=True)
    arguments.output.write_text(json.dumps(result, indent=2) + "\n")
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()

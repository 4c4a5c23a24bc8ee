"""Training step and scoring of MMFI at AliExpress size: stemlab, a plain twin and the published code alternate.

    python scripts/bench/mmfi_step.py [--threads 1] [--published DIR]

DIR is a checkout of EnnengYang/MMFI (docs/benchmarks.md).

Batch 2048 with 4 scenarios, 16 categorical fields, 23 + 40 numerical columns, embedding width 16, 2 tasks, hard mask,
float32, all variants in one process with the memory setting of the trainer.
Variants: ``twin`` (``mmfi_twin.py``) has the loops of the released code over scenarios, tasks and experts, and passes
each sample through the modules of all scenarios; ``stemlab published`` (``published=true``) computes the same values;
``stemlab`` is the default; ``stemlab kernels off`` is the default with the plain equations (``trainer.kernels=off``).
Training is a whole step with Adam and weight decay 1e-6. Peak memory is measured in separate processes: the growth of
resident memory during three steps (or three scored batches). Writes ``results/mmfi_step.json`` (see ``--output``).
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import published
import timing
import torch
from mmfi_twin import PlainMMFI, plain_step
from torch import Tensor, nn

from stemlab.data.batch import ImpressionBatch
from stemlab.data.spec import ImpressionSizes
from stemlab.models.multiscenario.mmfi import MMFI
from stemlab.nn.kernels.dispatch import KernelMode, kernel_mode
from stemlab.nn.loss import task_losses
from stemlab.optim import OptimConfig, PenalisedAdam, Penalty, build_optimizer
from stemlab.runs.allocator import keep_freed_memory

BATCH, DECAY = 2048, 1e-6
COUNTRIES, TASKS = ("nl", "es", "fr", "us"), ("click", "conversion")
SHARES = (0.19, 0.35, 0.29, 0.17)  # approximate shares of training samples
FIELDS = (12, 8, 8, 10, 500, 500, 40, 60, 2_000, 90, 400, 5_000, 30, 20, 20, 300)
USER, ITEM = 23, 40
VARIANTS = ("stemlab", "stemlab kernels off", "stemlab published", "twin")
PUBLISHED = "published code"
Act = Callable[[], object]


def make_batch() -> tuple[ImpressionBatch, Tensor]:
    """Return a batch, and ids for the twin with the scenario as column 0."""
    scenario_B = torch.multinomial(torch.tensor(SHARES), BATCH, replacement=True)
    ids_BF = torch.stack([torch.randint(1, rows, (BATCH,)) for rows in FIELDS], dim=1)
    labels_BT = (torch.rand(BATCH, len(TASKS)) < torch.tensor([0.03, 0.005])).to(torch.int8)
    batch = ImpressionBatch(ids_BF, labels_BT, torch.rand(BATCH, USER + ITEM), scenario_B.int())
    return batch, torch.cat([scenario_B[:, None], ids_BF], dim=1)


def make_net(as_published: bool) -> MMFI:
    parts = {f"x{n}": "user" if n < USER else "item" for n in range(USER + ITEM)}
    fields = {f"c{n}": rows for n, rows in enumerate(FIELDS)}
    return MMFI(ImpressionSizes(fields, parts, COUNTRIES), TASKS, embedding_dim=16, published=as_published)


def our_step(net: MMFI, adam: PenalisedAdam, batch: ImpressionBatch) -> None:
    adam.zero_grad()
    assert batch.labels_BT is not None
    task_losses(net.train()(batch).logit_BT, batch.labels_BT).mean().backward()
    adam.step()


@torch.no_grad()
def our_score(net: MMFI, batch: ImpressionBatch) -> Tensor:
    return net.eval()(batch).logit_BT.sigmoid()


@torch.no_grad()
def plain_score(net: nn.Module, *inputs: object) -> list[Tensor]:
    scores: list[Tensor] = net.eval()(*inputs)
    return scores


def acts(variant: str, folder: Path | None = None) -> dict[str, Act]:
    """Return the training step and the scoring of one batch of a variant."""
    torch.manual_seed(0)
    batch, ids = make_batch()
    assert batch.labels_BT is not None
    assert batch.dense_BN is not None
    inputs, labels = (ids, batch.dense_BN), batch.labels_BT.float()
    sizes = [len(COUNTRIES), *FIELDS]
    if variant == PUBLISHED:
        assert folder is not None
        theirs = published.mmfi(folder, sizes, len(TASKS))
        adam = torch.optim.Adam(theirs.parameters(), lr=1e-3, weight_decay=DECAY)
        return {
            "training": lambda: published.mmfi_step(theirs.train(), adam, inputs, labels),
            "evaluation": partial(plain_score, theirs, *inputs, ids.device),
        }
    if variant == "twin":
        twin = PlainMMFI(sizes, USER, ITEM, len(TASKS))
        adam = torch.optim.Adam(twin.parameters(), lr=1e-3, weight_decay=DECAY)
        return {
            "training": lambda: plain_step(twin.train(), adam, inputs, labels),
            "evaluation": partial(plain_score, twin, *inputs),
        }
    net = make_net(as_published=variant == "stemlab published")
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


def measure(rounds: int, clock: str, folder: Path | None) -> dict[str, dict[str, Any]]:
    """Return act -> seconds and ratios; variants alternate, so other load on the machine affects all of them."""
    variants = [*VARIANTS, PUBLISHED] if folder is not None else [*VARIANTS]
    every = {variant: acts(variant, folder) for variant in variants}
    found = {}
    for act in ("training", "evaluation"):
        wall, cpu = timing.alternate({variant: every[variant][act] for variant in variants}, rounds, warmup=1)
        seconds, label = timing.pick(clock, wall, cpu)
        found[act] = {
            "seconds": {variant: timing.spread(values) for variant, values in wall.items()},
            "cpu_seconds": {variant: timing.spread(values) for variant, values in cpu.items()},
            "saved_by_kernels": 1 - 1 / timing.paired_ratio(cpu["stemlab kernels off"], cpu["stemlab"])["median"],
            "rows": rows(act, label, seconds),
        }
    return found


def rows(act: str, clock: str, wall: timing.Seconds) -> list[dict[str, Any]]:
    """Return the rows of the table of one act."""
    what = f"MMFI {act}, batch {BATCH}, {len(COUNTRIES)} scenarios, {len(TASKS)} tasks{clock}"
    names = {PUBLISHED: PUBLISHED, "twin": "twin of the published code"}
    found = [
        timing.row(what + how, names[base], timing.paired_ratio(wall[base], wall[variant]))
        for base in names
        if base in wall
        for variant, how in (("stemlab", ""), ("stemlab published", ", net.published=true"))
    ]
    if PUBLISHED in wall:
        faster = timing.paired_ratio(wall[PUBLISHED], wall["twin"])
        found.append(timing.row(f"twin of the {what}", PUBLISHED, faster))
    off = timing.paired_ratio(wall["stemlab kernels off"], wall["stemlab"])
    return [*found, timing.row(f"{what}, trainer.kernels=auto", "trainer.kernels=off", off)]


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
    timing.add_clock(parser)
    parser.add_argument("--published", type=Path, metavar="DIR", help="checkout of EnnengYang/MMFI, timed as well")
    parser.add_argument("--peak", nargs=2, metavar=("VARIANT", "ACT"), help="print one peak; used by this script")
    parser.add_argument("--output", type=Path, default=Path(__file__).parent / "results" / "mmfi_step.json")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    if arguments.peak:
        print(peak(*arguments.peak))
        return
    memory = peaks(arguments.threads)
    keep_freed_memory()
    speed = measure(arguments.rounds, arguments.clock, arguments.published)
    every = [row for act in speed for row in speed[act].pop("rows")]
    for act, found in memory.items():
        share = timing.spread([found["share_of_twin"]["stemlab"]])
        every.append(timing.row(f"MMFI {act}, peak memory", "twin of the published code", share))
    result = {
        "machine": timing.machine(arguments.threads),
        "batch": BATCH,
        "rounds": arguments.rounds,
        **{act: speed[act] | memory[act] for act in speed},
        "rows": every,
    }
    arguments.output.parent.mkdir(parents=True, exist_ok=True)
    arguments.output.write_text(json.dumps(result, indent=2) + "\n")
    print(json.dumps(every, indent=2))


if __name__ == "__main__":
    main()

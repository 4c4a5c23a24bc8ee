"""TiMiRec's training step at the MovieLens-1M size: stemlab, a plain twin and the published code alternate.

    python scripts/bench/sequence_step.py [--threads 2] [--published DIR]

DIR is a checkout of ReChorus (docs/benchmarks.md).

Batch 256, 3,706 items, histories of up to 20, one negative, width 64, float32, both stages (K 2, T 0.5, projection of
two layers). Every variant runs in its own process; they take a few steps in turn, so other load affects them alike.
Ratios are medians over these rounds. stemlab has the memory setting of its trainer; the baselines run with the default
of the C library and, as ``same memory``, with the trainer's. Writes ``results/sequence_step.json`` (``--output`` for
another).
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import time
from collections.abc import Callable
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import published
import timing
import torch
from timirec_twin import PlainTiMiRec, plain_adam
from torch import Tensor

from stemlab.data.batch import SequenceBatch
from stemlab.data.spec import SequenceSizes
from stemlab.models.sequential.timirec import TiMiRec
from stemlab.optim import RankingOptimConfig, build_ranking_optimizer
from stemlab.runs.allocator import keep_freed_memory

SIZES = SequenceSizes(users=6040, items=3706, history_max=20)
BATCH, NEGATIVES, SHARE_SHORT = 256, 1, 0.11  # 11 % of MovieLens-1M's samples have fewer than 20 history items
CONFIG = {"emb_size": 64, "attn_size": 8, "K": 2, "add_pos": 1, "add_trm": 1, "temp": 0.5, "n_layers": 2}
LR, L2, STEPS = 1e-4, 1e-6, 5
STAGES = ("pretrain", "finetune")
Step = Callable[[], float]


def make_batch() -> SequenceBatch:
    """Return a batch with the lengths of MovieLens-1M and, as there, about 1,800 unique items."""
    length_B = torch.full((BATCH,), SIZES.history_max)
    short = torch.rand(BATCH) < SHARE_SHORT
    length_B[short] = torch.randint(1, SIZES.history_max, (int(short.sum()),))
    draw = torch.rand(BATCH, SIZES.history_max + 1 + NEGATIVES) ** 4
    item = (1 + draw * SIZES.items).long().clamp_(max=SIZES.items)
    history_BL = item[:, : SIZES.history_max] * (torch.arange(SIZES.history_max) < length_B.unsqueeze(1))
    return SequenceBatch(torch.randint(1, 6041, (BATCH,)), history_BL, length_B, item[:, SIZES.history_max :])


def our_step(net: TiMiRec, adam: torch.optim.Optimizer, batch: SequenceBatch) -> float:
    adam.zero_grad()
    parts = net.losses(net(batch, "train"))
    loss = torch.stack(list(parts.values())).sum()
    loss.backward()
    adam.step()
    return float(loss.detach())


def twin_step(net: PlainTiMiRec, adam: torch.optim.Optimizer, batch: SequenceBatch) -> float:
    adam.zero_grad()
    parts = net.loss(net(batch.history_BL, batch.length_B, batch.candidates_BN, training=True))
    loss: Tensor = sum(parts.values(), torch.zeros(()))
    loss.backward()
    adam.step()
    return float(loss.detach())


def make_step(stage: str, ours: bool) -> Step:
    """Return the training step of stemlab or of the twin."""
    torch.manual_seed(0)
    batch, config = make_batch(), {**CONFIG, "stage": stage}
    if ours:
        net = TiMiRec(SIZES, stage=stage, temperature=config["temp"], projection_layers=config["n_layers"])
        return partial(our_step, net, build_ranking_optimizer(net, RankingOptimConfig(lr=LR, l2=L2)), batch)
    twin = PlainTiMiRec(SIZES.items + 1, SIZES.history_max, config)
    return partial(twin_step, twin, plain_adam(twin, LR, L2), batch)


def published_step(stage: str, folder: Path) -> Step:
    """Return the training step of the published code."""
    torch.manual_seed(0)
    batch = make_batch()
    net = published.timirec(folder, SIZES.items + 1, SIZES.history_max, {**CONFIG, "stage": stage})
    feed = {"item_id": batch.candidates_BN, "history_items": batch.history_BL, "lengths": batch.length_B}
    adam = published.timirec_adam(net, LR, L2)
    return partial(published.timirec_step, net.train(), adam, {**feed, "phase": "train"})


def work(calls: Connection, stage: str, variant: str, threads: int, folder: Path | None) -> None:
    """Run ``STEPS`` steps per message and send back wall-clock and CPU seconds per step."""
    if variant == "stemlab" or variant.endswith(SAME_MEMORY):
        keep_freed_memory()
    torch.set_num_threads(threads)
    code = variant.removesuffix(SAME_MEMORY)
    step = (
        make_step(stage, code == "stemlab") if folder is None or code != "published" else published_step(stage, folder)
    )
    while calls.recv():
        started = time.perf_counter(), time.process_time()
        for _ in range(STEPS):
            step()
        calls.send(((time.perf_counter() - started[0]) / STEPS, (time.process_time() - started[1]) / STEPS))


SAME_MEMORY = ", same memory"
BASELINES = {"twin": "twin of the published code", "published": "published code"}


def measure(stage: str, threads: int, rounds: int, folder: Path | None) -> tuple[timing.Seconds, timing.Seconds]:
    """Return wall-clock and CPU seconds per step, one value per round."""
    spawn, calls = multiprocessing.get_context("spawn"), {}
    codes = [code for code in BASELINES if code == "twin" or folder is not None]
    for variant in ("stemlab", *(code + memory for code in codes for memory in ("", SAME_MEMORY))):
        calls[variant], theirs = spawn.Pipe()
        spawn.Process(target=work, args=(theirs, stage, variant, threads, folder), daemon=True).start()
    wall: timing.Seconds = {name: [] for name in calls}
    cpu: timing.Seconds = {name: [] for name in calls}
    for number in range(rounds + 2):
        for name, call in calls.items():
            call.send(True)
            seconds = call.recv()
            if number >= 2:
                wall[name].append(seconds[0])
                cpu[name].append(seconds[1])
    for call in calls.values():
        call.send(False)
    return wall, cpu


def rows(stage: str, clock: str, wall: timing.Seconds) -> list[dict[str, Any]]:
    """Return the rows of the table of one stage."""
    what = f"TiMiRec step, {stage}, batch {BATCH}{clock}"
    found = []
    for code, name in BASELINES.items():
        for memory in ("", SAME_MEMORY):
            if code + memory in wall:
                where = "same allocator settings" if memory else "default allocator settings"
                ratio = timing.paired_ratio(wall[code + memory], wall["stemlab"])
                found.append(timing.row(what, f"{name}, {where}", ratio))
    if "published" in wall:
        faster = timing.paired_ratio(wall[f"published{SAME_MEMORY}"], wall[f"twin{SAME_MEMORY}"])
        found.append(timing.row(f"twin of the {what}", "published code, same allocator settings", faster))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=40)
    parser.add_argument("--threads", type=int, default=2)
    timing.add_clock(parser)
    parser.add_argument("--published", type=Path, metavar="DIR", help="checkout of ReChorus, timed as well")
    parser.add_argument("--output", type=Path, default=Path(__file__).parent / "results" / "sequence_step.json")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    result: dict[str, Any] = {
        "machine": timing.machine(arguments.threads),
        "batch": BATCH,
        "items": SIZES.items,
        "history_max": SIZES.history_max,
        "rounds": arguments.rounds,
        "peak_gflop_per_s": timing.product_peaks() if arguments.clock == "wall" else {},
        "rows": [],
    }
    for stage in STAGES:
        wall, cpu = measure(stage, arguments.threads, arguments.rounds, arguments.published)
        seconds, clock = timing.pick(arguments.clock, wall, cpu)
        result["rows"] += rows(stage, clock, seconds)
        result[stage] = {
            "seconds": {name: timing.spread(values) for name, values in wall.items()},
            "cpu_seconds": {name: timing.spread(values) for name, values in cpu.items()},
        }
    arguments.output.parent.mkdir(parents=True, exist_ok=True)
    arguments.output.write_text(json.dumps(result, indent=2) + "\n")
    print(json.dumps(result["rows"], indent=2))


if __name__ == "__main__":
    main()

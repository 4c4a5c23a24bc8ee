"""TiMiRec's training step at the MovieLens-1M size: stemlab against a plain implementation (the twin).

    python scripts/bench/sequence_step.py

Batch 256, 3,706 items, histories of up to 20, one negative, width 64, float32, both stages (K 2, T 0.5, projection of
two layers). Every variant runs in its own process, stemlab's with the memory setting of its trainer; the variants take
a few steps in turn, so other load affects them alike. Ratios are medians over these rounds, of wall-clock and of CPU
time. ``same_memory`` gives the twin (``timirec_twin.py``) the trainer's memory setting as well. Writes
``results/sequence_step.json`` (``--output`` for another).
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import statistics
import time
from collections.abc import Callable
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import torch
from timirec_twin import PlainTiMiRec, plain_adam
from torch import Tensor

from stemlab.data.batch import SequenceBatch
from stemlab.data.spec import SequenceSizes
from stemlab.models.sequential.timirec import TiMiRec
from stemlab.optim import RankingOptimConfig, build_ranking_optimizer
from stemlab.reporting.record import hardware
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
    torch.manual_seed(0)
    batch, config = make_batch(), {**CONFIG, "stage": stage}
    if ours:
        net = TiMiRec(SIZES, stage=stage, temperature=config["temp"], projection_layers=config["n_layers"])
        return partial(our_step, net, build_ranking_optimizer(net, RankingOptimConfig(lr=LR, l2=L2)), batch)
    twin = PlainTiMiRec(SIZES.items + 1, SIZES.history_max, config)
    return partial(twin_step, twin, plain_adam(twin, LR, L2), batch)


def work(calls: Connection, stage: str, variant: str, threads: int) -> None:
    """Run ``STEPS`` steps per message and send back wall-clock and CPU seconds per step."""
    if variant != "twin":
        keep_freed_memory()
    torch.set_num_threads(threads)
    step = make_step(stage, variant == "stemlab")
    while calls.recv():
        started = time.perf_counter(), time.process_time()
        for _ in range(STEPS):
            step()
        calls.send(((time.perf_counter() - started[0]) / STEPS, (time.process_time() - started[1]) / STEPS))


Samples = dict[str, list[float]]
VARIANTS = ("stemlab", "twin", "twin, same memory")


def measure(stage: str, threads: int, rounds: int) -> tuple[Samples, Samples]:
    """Return wall-clock and CPU seconds per step, one value per round."""
    spawn, calls = multiprocessing.get_context("spawn"), {}
    for variant in VARIANTS:
        calls[variant], theirs = spawn.Pipe()
        spawn.Process(target=work, args=(theirs, stage, variant, threads), daemon=True).start()
    wall: Samples = {name: [] for name in VARIANTS}
    cpu: Samples = {name: [] for name in VARIANTS}
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


def ratio(samples: Samples, twin: str = "twin") -> float:
    return statistics.median(one / ours for one, ours in zip(samples[twin], samples["stemlab"], strict=True))


def report(stage: str, threads: int, rounds: int) -> dict[str, Any]:
    wall, cpu = measure(stage, threads, rounds)
    median = {name: statistics.median(values) for name, values in wall.items()}
    return {
        "times_faster_than_twin": ratio(wall),
        "times_less_cpu_time": ratio(cpu),
        "times_faster_with_same_memory": ratio(wall, "twin, same memory"),
        "times_less_cpu_time_with_same_memory": ratio(cpu, "twin, same memory"),
        "median_s": median,
        "min_s": {name: min(values) for name, values in wall.items()},
        "cpu_s": {name: statistics.median(values) for name, values in cpu.items()},
        "instances_per_s": {name: BATCH / value for name, value in median.items()},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=40)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--output", type=Path, default=Path(__file__).parent / "results" / "sequence_step.json")
    arguments = parser.parse_args()
    result: dict[str, Any] = {
        "batch": BATCH,
        "items": SIZES.items,
        "history_max": SIZES.history_max,
        "threads": arguments.threads,
        "rounds": arguments.rounds,
        "cpu": hardware(processes=1)["cpu"],
        "torch": torch.__version__,
        "load_average": os.getloadavg()[0],
    }
    result |= {stage: report(stage, arguments.threads, arguments.rounds) for stage in STAGES}
    arguments.output.parent.mkdir(parents=True, exist_ok=True)
    arguments.output.write_text(json.dumps(result, indent=2) + "\n")
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()

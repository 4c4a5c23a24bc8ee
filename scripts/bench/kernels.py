"""Time that the CPU kernels save in whole training steps.

    python scripts/bench/kernels.py

Forward pass, loss, backward pass and optimiser step of TiMiRec at the MovieLens-1M size of ``sequence_step.py``, with
``trainer.kernels=auto`` and ``off``. Both modes take blocks of steps in turn, in one process with the trainer's memory
setting. The saving is ``1 - auto / off``, the median over rounds; ``wall`` is elapsed time, ``cpu`` is CPU time, which
other processes disturb less. Writes ``results/kernels.json`` (``--output`` for another).
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import time
from functools import partial
from pathlib import Path
from typing import Any

import sequence_step
import torch

from stemlab.models.sequential.timirec import TiMiRec
from stemlab.nn.kernels.dispatch import KernelMode, kernel_mode
from stemlab.optim import RankingOptimConfig, build_ranking_optimizer
from stemlab.reporting.record import hardware
from stemlab.runs.allocator import keep_freed_memory

MODES: tuple[KernelMode, ...] = ("auto", "off")
STEPS = 3
Seconds = dict[str, list[float]]


def make_step(stage: str) -> sequence_step.Step:
    torch.manual_seed(0)
    net = TiMiRec(sequence_step.SIZES, stage=stage, temperature=0.5, projection_layers=2)
    adam = build_ranking_optimizer(net, RankingOptimConfig(lr=sequence_step.LR, l2=sequence_step.L2))
    return partial(sequence_step.our_step, net, adam, sequence_step.make_batch())


def measure(step: sequence_step.Step, rounds: int) -> dict[str, Seconds]:
    """Return ``wall`` and ``cpu`` -> mode -> seconds per step, one value per round."""
    seconds: dict[str, Seconds] = {clock: {mode: [] for mode in MODES} for clock in ("wall", "cpu")}
    for number in range(rounds + 1):
        for mode in MODES:
            with kernel_mode(mode):
                started = time.perf_counter(), time.process_time()
                for _ in range(STEPS):
                    step()
                if number:  # the first round warms up
                    seconds["wall"][mode].append((time.perf_counter() - started[0]) / STEPS)
                    seconds["cpu"][mode].append((time.process_time() - started[1]) / STEPS)
    return seconds


def summary(seconds: Seconds) -> dict[str, Any]:
    return {
        "median_s": {mode: statistics.median(values) for mode, values in seconds.items()},
        "saving": statistics.median(1 - a / b for a, b in zip(seconds["auto"], seconds["off"], strict=True)),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=40)
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--output", type=Path, default=Path(__file__).parent / "results" / "kernels.json")
    arguments = parser.parse_args()
    keep_freed_memory()
    result: dict[str, Any] = {
        "rounds": dict.fromkeys(map(str, arguments.threads), arguments.rounds),
        "cpu": hardware(processes=1)["cpu"],
        "torch": torch.__version__,
        "load_average": os.getloadavg()[0],
        "threads": {},
    }
    for threads in arguments.threads:
        torch.set_num_threads(threads)
        measured = {stage: measure(make_step(stage), arguments.rounds) for stage in sequence_step.STAGES}
        result["threads"][str(threads)] = {
            stage: {clock: summary(seconds) for clock, seconds in clocks.items()} for stage, clocks in measured.items()
        }
        print(threads, json.dumps(result["threads"][str(threads)]), flush=True)
    arguments.output.parent.mkdir(parents=True, exist_ok=True)
    arguments.output.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()

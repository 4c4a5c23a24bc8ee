"""Cost of the diagnostics callback: its time per epoch against the steps of an epoch, STEM with the released settings.

    python scripts/bench/diagnostics.py                  # 200,000 synthetic samples: 40 steps per epoch
    python scripts/bench/diagnostics.py --tables large   # 0.6 million users, 1.8 million items: 4,840 steps per epoch

Steps and diagnostics run alternately in one process. Writes ``results/diagnostics.json`` (``--output`` for another
file).
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import torch
from step import FIELDS, PENALTY, TABLES, TASKS, make_batch, make_stem, our_step

from stemlab.callbacks.diagnostics import diagnose, first_rows
from stemlab.data.batch import ImpressionBatch
from stemlab.data.spec import DatasetSpec, Field
from stemlab.lightning.multitask import MultiTaskModule
from stemlab.lightning.settings import ModuleSettings
from stemlab.optim import OptimConfig, Penalty, build_optimizer

STEPS = {"sample": 40, "large": 4_840}  # 80 % of 200,000, and 19.8 million samples, in batches of 4096
ROWS = 1024


def timed(work: Callable[[], object]) -> tuple[float, float]:
    started = time.perf_counter(), time.process_time()
    work()
    return time.perf_counter() - started[0], time.process_time() - started[1]


def measure(tables: str, rounds: int) -> dict[str, float]:
    """Return the median wall-clock and CPU seconds of a step and of the diagnostics."""
    sizes = TABLES[tables]
    ids_BF, labels_BT = make_batch(sizes)
    batch, net = ImpressionBatch(ids_BF, labels_BT), make_stem(sizes)
    spec = DatasetSpec("bench", tuple(map(Field, FIELDS, sizes)), TASKS, group="uid", sample=True)
    module = MultiTaskModule(net, spec, TASKS, ModuleSettings(optim=OptimConfig(lr=1e-3)))
    adam, kept = build_optimizer(net, OptimConfig(lr=1e-3), Penalty(l2=PENALTY), Penalty()), first_rows(batch, ROWS)
    found: dict[str, list[tuple[float, float]]] = {"step": [], "diagnostics": []}
    for number in range(rounds + 1):
        taken = timed(lambda: our_step(net, adam, batch, False)), timed(lambda: diagnose(module, kept, "l2"))
        if number:
            for name, seconds in zip(found, taken, strict=True):
                found[name].append(seconds)
    return {
        f"{name}_{clock}_s": statistics.median(pair[index] for pair in pairs)
        for name, pairs in found.items()
        for index, clock in enumerate(("wall", "cpu"))
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tables", choices=TABLES, default="sample")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--output", type=Path, default=Path(__file__).parent / "results" / "diagnostics.json")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    torch.manual_seed(0)
    seconds = measure(arguments.tables, arguments.rounds)
    steps = STEPS[arguments.tables]
    result = {
        "tables": arguments.tables,
        "rows": ROWS,
        "steps_per_epoch": steps,
        "threads": arguments.threads,
        "rounds": arguments.rounds,
        "torch": torch.__version__,
        "load_average": os.getloadavg()[0],
        **seconds,
        "share_of_epoch_wall": seconds["diagnostics_wall_s"] / (steps * seconds["step_wall_s"]),
        "share_of_epoch_cpu": seconds["diagnostics_cpu_s"] / (steps * seconds["step_cpu_s"]),
    }
    arguments.output.write_text(json.dumps(result, indent=2) + "\n")
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()

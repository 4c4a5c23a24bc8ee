"""Time of STEM's training step against the rows of its embedding tables, for each value of ``optim.tables``.

    python scripts/bench/tables.py
    python scripts/bench/tables.py --precision bf16 --output /tmp/tables.json

STEM at the size of the released TikTok run (8 fields x 48, batch 4096), whole steps: forward and backward pass, L2
penalty, clipping, optimiser. All variants take turns in one process, each with another batch at every step. The tables
share the rows in the proportions of the TikTok data. The ratios are of CPU time, which other load disturbs less than
wall-clock time. Needs 10 GB of memory. Writes ``results/tables.json``.
"""

from __future__ import annotations

import argparse
import itertools
import json
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import torch
from step import PENALTY, TABLES, TASKS, make_batch, make_net, our_step
from timing import alternate, machine, paired_ratio, row, spread

from stemlab.data.batch import ImpressionBatch
from stemlab.nn.row_embedding import use_row_gradients
from stemlab.optim import OptimConfig, Penalty, build_optimizer
from stemlab.runs.allocator import keep_freed_memory

RULES = ("dense_adam", "sparse_adam", "rowwise_adagrad")
ROWS = (50_000, 500_000, 5_000_000)
WIDTH = 16 * (len(TASKS) + 1)
BATCHES = 16


def sizes_of(rows: int) -> tuple[int, ...]:
    """Return the rows of each table: together about ``rows``, in the proportions of the TikTok data."""
    whole = TABLES["large"]
    return tuple(max(4, round(size * rows / sum(whole))) for size in whole)


def make_step(rows: int, rule: str, half: bool) -> Callable[[], float]:
    """Return a function that trains on the next batch."""
    sizes = sizes_of(rows)
    net = make_net("stem", sizes)
    if rule != "dense_adam":
        use_row_gradients(net)
    mode = "dense" if rule == "dense_adam" else "batch"
    adam = build_optimizer(net, OptimConfig(tables=rule), Penalty(l2=PENALTY), Penalty(), mode)  # type: ignore[arg-type]
    batches = itertools.cycle([ImpressionBatch(*make_batch(sizes)) for _ in range(BATCHES)])
    return partial(_next_step, net, adam, batches, half)


def _next_step(net: Any, adam: Any, batches: Iterator[ImpressionBatch], half: bool) -> float:
    return our_step(net, adam, next(batches), half)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rows", type=int, nargs="+", default=ROWS, help="rows of all tables together, fewest first")
    parser.add_argument("--precision", choices=("float32", "bf16"), default="float32")
    parser.add_argument("--output", type=Path, default=Path(__file__).parent / "results" / "tables.json")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    keep_freed_memory()
    torch.manual_seed(0)
    half = arguments.precision == "bf16"
    steps = {f"{rule} {rows}": make_step(rows, rule, half) for rows in arguments.rows for rule in RULES}
    wall, cpu = alternate(steps, arguments.rounds)
    result = {
        **machine(arguments.threads),
        "precision": arguments.precision,
        "rounds": arguments.rounds,
        "wall_s": {name: spread(values) for name, values in wall.items()},
        "cpu_s": {name: spread(values) for name, values in cpu.items()},
        "rows": [
            row(
                f"time of a STEM step, {arguments.precision}, {many:,} table rows x {WIDTH}, optim.tables={rule}",
                f"{arguments.rows[0]:,} table rows",
                paired_ratio(cpu[f"{rule} {many}"], cpu[f"{rule} {arguments.rows[0]}"]),
            )
            for rule in RULES
            for many in arguments.rows[1:]
        ],
    }
    arguments.output.parent.mkdir(parents=True, exist_ok=True)
    arguments.output.write_text(json.dumps(result, indent=2) + "\n")
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()

"""CPU time of lookup and update of embedding tables: FBGEMM's operators against ``optim.tables=rowwise_adagrad``.

    python scripts/bench/fused_tables.py

Both rules look up 8 fields of width 48 for 4,096 samples, get the same gradient, and update the rows of the batch, with
and without an L2 penalty of these rows; no network follows. They take turns in one process on one thread, each with
another batch at every step. The tables share the rows in the proportions of the TikTok data. Needs FBGEMM
(``make torchrec``). Writes ``results/fused_tables.json``.
"""

from __future__ import annotations

import argparse
import itertools
import json
from collections.abc import Callable
from pathlib import Path

import torch
from step import PENALTY, make_batch
from tables import WIDTH, sizes_of
from timing import alternate, machine, paired_ratio, row
from torch import nn

from stemlab.nn.embedding import FieldEmbedding
from stemlab.nn.row_embedding import use_row_gradients
from stemlab.optim import OptimConfig, Penalty, build_optimizer
from stemlab.runs.allocator import keep_freed_memory

RULES = ("rowwise_adagrad", "torchrec_rowwise_adagrad")
ROWS = (50_000, 500_000, 2_000_000)
BATCHES = 16


def make_step(rows: int, rule: str, l2: float) -> Callable[[], None]:
    """Return a function that looks up the next batch and updates the tables."""
    torch.manual_seed(0)
    sizes = sizes_of(rows)
    embedding = FieldEmbedding({f"field{n}": size for n, size in enumerate(sizes)}, ["shared"], WIDTH, padding=False)
    net = nn.ModuleList([embedding])
    if rule == "rowwise_adagrad":
        use_row_gradients(net)
    optim = OptimConfig(tables=rule, clip_norm=None)  # type: ignore[arg-type]
    optimizer = build_optimizer(net, optim, Penalty(l2=l2), Penalty(), "batch")
    ids = itertools.cycle([make_batch(sizes)[0] for _ in range(BATCHES)])
    grad = torch.randn(len(next(ids)), len(sizes) * WIDTH)

    def step() -> None:
        optimizer.zero_grad()
        embedding(next(ids))[0].backward(grad)
        optimizer.step()

    return step


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--output", type=Path, default=Path(__file__).parent / "results" / "fused_tables.json")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    keep_freed_memory()
    made = []
    for rows, l2 in itertools.product(ROWS, (0.0, PENALTY)):
        _, cpu = alternate({rule: make_step(rows, rule, l2) for rule in RULES}, arguments.rounds, calls=4)
        ratio = paired_ratio(cpu["torchrec_rowwise_adagrad"], cpu["rowwise_adagrad"])
        penalty = " with L2 penalty" if l2 else ""
        what = (
            f"lookup{',' if l2 else ' and'} update{penalty}, {rows:,} table rows x {WIDTH}, rowwise_adagrad, CPU time"
        )
        made.append(row(what, "torchrec_rowwise_adagrad (FBGEMM)", ratio))
        print(made[-1])
    result = {**machine(1), "rounds": arguments.rounds, "rows": made}
    arguments.output.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()

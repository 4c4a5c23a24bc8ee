"""Time of STEM's captured training step on one GPU against the rows of its embedding tables, for each ``optim.tables``.

    python scripts/bench/gpu_tables.py              # less than a minute, 10 GB of GPU memory
    python scripts/bench/gpu_tables.py --rows 50000 --rounds 2

The same network, rows and rules as ``tables.py``, with the optimiser and the capture of ``trainer=gpu``. Each step
copies another batch to the addresses that the graph reads. Writes ``results/gpu_tables.json`` (``--output``).
"""

from __future__ import annotations

import argparse
import gc
import json
import sys
import time
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch
from step import PENALTY, make_batch, make_net
from tables import BATCHES, ROWS, RULES, WIDTH, sizes_of
from timing import paired_ratio, row, spread

from stemlab.data.batch import ImpressionBatch
from stemlab.lightning.step_graph import CudaGraphs
from stemlab.nn.loss import task_losses
from stemlab.nn.row_embedding import use_row_gradients
from stemlab.optim import OptimConfig, Penalty, build_optimizer, clip_gradients
from stemlab.optim.capture import make_capturable

WARMUP, STEPS = 3, 50


class CapturedSteps:
    """Captured training steps of STEM.

    Args:
        rows: rows of all tables together.
        rule: ``optim.tables``.
        half: bfloat16 by autocast.
    """

    def __init__(self, rows: int, rule: str, half: bool) -> None:
        sizes = sizes_of(rows)
        net = make_net("stem", sizes).cuda()
        if rule != "dense_adam":
            use_row_gradients(net)
        mode = "dense" if rule == "dense_adam" else "batch"
        optimizer = build_optimizer(net, OptimConfig(tables=rule), Penalty(l2=PENALTY), Penalty(), mode)  # type: ignore[arg-type]
        make_capturable(optimizer)
        drawn = [make_batch(sizes) for _ in range(BATCHES)]
        self.batches = [ImpressionBatch(ids.int(), labels.to(torch.int8)).to("cuda") for ids, labels in drawn]
        self.batch = self.batches[0].map(torch.clone)

        def step() -> None:
            torch.clear_autocast_cache()
            optimizer.zero_grad(set_to_none=True)
            with torch.autocast("cuda", torch.bfloat16) if half else nullcontext():
                logit_BT = net(self.batch).logit_BT
            assert self.batch.labels_BT is not None
            task_losses(logit_BT, self.batch.labels_BT).sum().backward()
            clip_gradients(optimizer, 10.0)
            optimizer.step()
            torch.clear_autocast_cache()

        graphs = CudaGraphs(torch.device("cuda", torch.cuda.current_device()))
        for _ in range(WARMUP):
            graphs.run(step)
        optimizer.zero_grad(set_to_none=True)
        self._replay: Callable[[], None] = graphs.capture(step)
        self.graphs, self.net = graphs, net

    def milliseconds(self) -> float:
        """Return the time of a step, the mean of many."""
        torch.cuda.synchronize()
        started = time.perf_counter()
        for number in range(STEPS):
            for name, tensor in self.batch.tensors().items():
                tensor.copy_(self.batches[number % BATCHES].tensors()[name])
            self._replay()
        torch.cuda.synchronize()
        return (time.perf_counter() - started) / STEPS * 1e3


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--rows", type=int, nargs="+", default=ROWS, help="rows of all tables together, fewest first")
    parser.add_argument("--output", type=Path, default=Path(__file__).parent / "results" / "gpu_tables.json")
    arguments = parser.parse_args()
    if not torch.cuda.is_available():
        sys.exit("this benchmark needs a GPU, and PyTorch finds none")
    result: dict[str, Any] = {
        "device": torch.cuda.get_device_name(),
        "torch": torch.__version__,
        "milliseconds": {},
        "rows": [],
    }
    for half in (False, True):
        precision = "bf16" if half else "float32"
        for rule in RULES:
            by_rows, finite = {}, True
            for rows in arguments.rows:
                variant = CapturedSteps(rows, rule, half)
                by_rows[rows] = [variant.milliseconds() for _ in range(arguments.rounds)]
                finite &= all(bool(parameter.isfinite().all()) for parameter in variant.net.parameters())
                del variant
                gc.collect()
                torch.cuda.empty_cache()
                result["milliseconds"][f"{precision} {rule} {rows}"] = spread(by_rows[rows])
            few = by_rows[arguments.rows[0]]
            for rows in arguments.rows[1:]:
                what = f"captured STEM step, {precision}, {rows:,} table rows x {WIDTH}, optim.tables={rule}"
                result["rows"].append(row(what, f"{arguments.rows[0]:,} table rows", paired_ratio(by_rows[rows], few)))
            arguments.output.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
            times = {rows: round(spread(values)["median"], 3) for rows, values in by_rows.items()}
            print(f"{precision} {rule}: {times} ms {'' if finite else 'NOT FINITE'}", flush=True)


if __name__ == "__main__":
    main()

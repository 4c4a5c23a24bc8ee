"""Evaluation of STEM with AUC and gAUC: stemlab against its own bare forward pass and against the published code.

    python scripts/bench/evaluation.py [--threads 2] [--published DIR]

DIR is a checkout of LiangcaiSu/STEM (docs/benchmarks.md).

The network of ``step.py`` scores batches of 4096 random samples of 5,000 users, in float32. ``forward`` computes the
probabilities only; ``stemlab`` adds the metrics of all batches (AUC, gAUC, log loss and calibration). The published
code runs its ``evaluate`` with AUC and gAUC (its log loss uses an argument that scikit-learn has removed). Batches are
ready on both sides. Writes ``results/evaluation.json`` (``--output`` for another).
"""

from __future__ import annotations

import argparse
import json
import logging
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import published
import step
import timing
import torch
from torch import Tensor

from stemlab.data.batch import ImpressionBatch
from stemlab.metrics import MultiTaskMetrics
from stemlab.models.multitask.base import TabularNet
from stemlab.runs.allocator import keep_freed_memory

SIZES = step.TABLES["sample"]
Batches = list[tuple[Tensor, Tensor]]


@torch.no_grad()
def forward(net: TabularNet, batches: Batches) -> None:
    for ids_BF, _ in batches:
        net(ImpressionBatch(ids_BF)).logit_BT.sigmoid()


@torch.no_grad()
def evaluate(net: TabularNet, batches: Batches) -> dict[str, float]:
    metrics = MultiTaskMetrics(step.TASKS)
    for ids_BF, labels_BT in batches:
        user_B = ids_BF[:, 0]
        metrics.update(net(ImpressionBatch(ids_BF)).logit_BT.sigmoid(), labels_BT, group_B=user_B)
    return metrics.compute()


def works(count: int, folder: Path | None) -> dict[str, Callable[[], object]]:
    """Return variant -> evaluation of ``count`` batches."""
    batches = [step.make_batch(SIZES) for _ in range(count)]
    net = step.make_net("stem", SIZES).eval()
    found: dict[str, Callable[[], object]] = {
        "forward": partial(forward, net, batches),
        "stemlab": partial(evaluate, net, batches),
    }
    if folder is not None:
        logging.disable(logging.INFO)
        named = dict(zip(step.FIELDS, SIZES, strict=True))
        model = published.multitask_model(folder, "STEM", named, step.net_settings("stem"), len(step.TASKS))
        model.feature_map.group_id = step.FIELDS[0]
        data = [torch.cat([ids_BF.double(), labels_BT.double()], dim=1) for ids_BF, labels_BT in batches]
        found["published"] = partial(model.evaluate, data, ["AUC", "gAUC"])
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batches", type=int, default=25)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    timing.add_clock(parser)
    parser.add_argument("--published", type=Path, metavar="DIR", help="checkout of LiangcaiSu/STEM, timed as well")
    parser.add_argument("--output", type=Path, default=Path(__file__).parent / "results" / "evaluation.json")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    keep_freed_memory()
    wall, cpu = timing.alternate(works(options.batches, options.published), options.rounds, warmup=1)
    seconds, clock = timing.pick(options.clock, wall, cpu)
    what = f"STEM evaluation of {options.batches * step.BATCH:,} samples with gAUC{clock}"
    rows = [timing.row(what, "its bare forward pass (100% = no overhead)", share(seconds), "%")]
    if options.published is not None:
        rows.insert(
            0, timing.row(what, "published code", timing.paired_ratio(seconds["published"], seconds["stemlab"]))
        )
    result: dict[str, Any] = {
        "machine": timing.machine(options.threads),
        "rounds": options.rounds,
        "seconds": {name: timing.spread(values) for name, values in wall.items()},
        "cpu_seconds": {name: timing.spread(values) for name, values in cpu.items()},
        "rows": rows,
    }
    options.output.parent.mkdir(parents=True, exist_ok=True)
    options.output.write_text(json.dumps(result, indent=2) + "\n")
    print(json.dumps(rows, indent=2))


def share(wall: timing.Seconds) -> timing.Spread:
    """Return the share of the evaluation's speed in that of the bare forward pass."""
    return timing.paired_ratio(wall["forward"], wall["stemlab"])


if __name__ == "__main__":
    main()

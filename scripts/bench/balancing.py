"""Cost of the methods of ``model.balancing``: a training step of STEM at the published size, against a plain step.

    python scripts/bench/balancing.py --threads 1 --clock cpu

Two tasks, the vocabularies of the 200,000-row sample, batch 4096, clipping and penalty as in ``step.py``. Each method
takes turns with plain steps in one process. ``cost`` is the time of a step divided by that of a plain step
(``model.balancing=sum``). Writes ``results/balancing.json`` (``--output`` for another); ``--methods`` replaces the
values of these methods in that file.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, get_args

import torch
from step import FIELDS, PENALTY, TABLES, TASKS, make_batch, make_net
from timing import add_clock, alternate, machine, paired_ratio, pick, row

from stemlab.balancing_methods import DEFAULTS, BalancingMethod, BalancingSettings
from stemlab.data.batch import ImpressionBatch
from stemlab.data.spec import DatasetSpec, Field
from stemlab.lightning.multitask import MultiTaskModule
from stemlab.lightning.settings import ModuleSettings
from stemlab.optim import OptimConfig, PenalisedOptimizer, Penalty
from stemlab.runs.allocator import keep_freed_memory

METHODS = [method for method in get_args(BalancingMethod) if method not in ("mean", "weights")]


def training_step(module: MultiTaskModule, optimizer: PenalisedOptimizer, batch: ImpressionBatch) -> float:
    optimizer.zero_grad()
    loss, _ = module.losses(batch)
    loss.backward()
    module.clip(optimizer)
    optimizer.step()
    return float(loss.detach())


def make_step(method: Any, batch: ImpressionBatch) -> Callable[[], float]:
    sizes = TABLES["sample"]
    spec = DatasetSpec("bench", tuple(map(Field, FIELDS, sizes)), TASKS, group="uid", sample=True)
    balancing = None if method == "sum" else BalancingSettings(method, DEFAULTS.get(method, {}))
    settings = ModuleSettings(
        optim=OptimConfig(lr=1e-3), embedding_penalty=Penalty(l2=PENALTY), net_penalty=Penalty(), balancing=balancing
    )
    module = MultiTaskModule(make_net("stem", sizes), spec, TASKS, settings)
    return partial(training_step, module, module.configure_optimizers(), batch)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--methods", nargs="+", choices=METHODS[1:], default=METHODS[1:])
    add_clock(parser)
    parser.add_argument("--output", type=Path, default=Path(__file__).parent / "results" / "balancing.json")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    torch.manual_seed(0)
    keep_freed_memory()
    batch = ImpressionBatch(*make_batch(TABLES["sample"]))
    earlier = json.loads(arguments.output.read_text()) if arguments.output.is_file() else {"cost": {}, "rows": []}
    costs = {method: cost for method, cost in earlier["cost"].items() if method not in arguments.methods}
    rows = [one for one in earlier["rows"] if any(f"balancing={method}" in one["what"] for method in costs)]
    for method in arguments.methods:
        steps = {name: make_step(name, batch) for name in ("sum", method)}
        seconds, label = pick(arguments.clock, *alternate(steps, arguments.rounds, warmup=1))
        costs[method] = paired_ratio(seconds[method], seconds["sum"])
        ratio = paired_ratio(seconds["sum"], seconds[method])
        rows.append(row(f"STEM step, model.balancing={method}{label}", "model.balancing=sum", ratio))
    result = machine(arguments.threads) | {"rounds": arguments.rounds, "cost": costs, "rows": rows}
    arguments.output.write_text(json.dumps(result, indent=1) + "\n")
    for method, cost in result["cost"].items():
        print(f"{method:12} {cost['median']:.2f} ({cost['low']:.2f} to {cost['high']:.2f})")


if __name__ == "__main__":
    main()

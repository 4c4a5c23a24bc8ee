"""Training step of sequential models with subnormal padding rows: flushed to zero (as stemlab trains) and kept.

    python scripts/bench/subnormals.py [--rounds 15]

Weight decay leaves the padding rows of item and position table subnormal after about 1,500 steps; here they start with
1e-40. Batch 512, 8,713 items, histories of 1 to 20 items (two thirds have at most 8, as in Grocery), width 64, float32,
one thread. Variants take turns in one process; ratios are of CPU time. Writes ``results/subnormals.json``
(``--output`` for another).
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from pathlib import Path

import torch
from timing import alternate, machine, paired_ratio, row, spread

from stemlab.data.batch import SequenceBatch
from stemlab.data.spec import SequenceSizes
from stemlab.models.sequential.base import SequenceNet
from stemlab.models.sequential.comirec import ComiRec
from stemlab.models.sequential.mind import MIND
from stemlab.models.sequential.sasrec import SASRec
from stemlab.optim import RankingOptimConfig, build_ranking_optimizer
from stemlab.runs.numerics import subnormals_flushed

SIZES = SequenceSizes(users=14_681, items=8_713, history_max=20)
BATCH, SHORT, SUBNORMAL = 512, 8, 1e-40
NETS: dict[str, Callable[[], SequenceNet]] = {
    "SASRec": lambda: SASRec(SIZES, num_heads=1),
    "ComiRec": lambda: ComiRec(SIZES),
    "MIND": lambda: MIND(SIZES),
}


def make_batch() -> SequenceBatch:
    """Return a batch of random histories, two thirds of them short."""
    length_B = torch.randint(1, SIZES.history_max + 1, (BATCH,))
    length_B = torch.where(torch.rand(BATCH) < 2 / 3, length_B.clamp(max=SHORT), length_B)
    history_BL = torch.randint(1, SIZES.items + 1, (BATCH, SIZES.history_max))
    history_BL *= torch.arange(SIZES.history_max) < length_B.unsqueeze(1)
    return SequenceBatch(
        torch.randint(1, SIZES.users + 1, (BATCH,)), history_BL, length_B, history_BL[:, :1].repeat(1, 2)
    )


def make_step(build: Callable[[], SequenceNet], first_row: float) -> Callable[[], None]:
    """Return a training step of a network whose padding rows have one value."""
    torch.manual_seed(0)
    net, batch = build(), make_batch()
    with torch.no_grad():
        for table in net.modules():
            if isinstance(table, torch.nn.Embedding):
                table.weight[0] = first_row
    adam = build_ranking_optimizer(net, RankingOptimConfig(lr=1e-3, l2=1e-6))

    def step() -> None:
        adam.zero_grad()
        torch.stack(list(net.losses(net(batch, "train")).values())).sum().backward()
        adam.step()

    return step


def main() -> None:
    """Measure the three networks."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--output", type=Path, default=Path(__file__).parent / "results" / "subnormals.json")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    result = {"machine": machine(1), "batch": BATCH, "rounds": arguments.rounds, "rows": [], "cpu_seconds": {}}
    for name, build in NETS.items():
        kept, flushed = make_step(build, SUBNORMAL), make_step(build, SUBNORMAL)

        def with_zeros(step: Callable[[], None] = flushed) -> None:
            with subnormals_flushed():
                step()

        acts = {"kept": kept, "flushed": with_zeros, "normal numbers": make_step(build, 1e-3)}
        _, cpu = alternate(acts, arguments.rounds)
        what = f"{name} step, padding rows subnormal, CPU time"
        result["rows"].append(
            row(what, "PyTorch's default: subnormal numbers are kept", paired_ratio(cpu["kept"], cpu["flushed"]))
        )
        result["cpu_seconds"][name] = {variant: spread(seconds) for variant, seconds in cpu.items()}
    arguments.output.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()

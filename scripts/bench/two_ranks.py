"""Training steps of two ranks (gloo, one thread each) against one rank with one thread, per layout of the tables.

    python scripts/bench/two_ranks.py

Two networks: STEM of the released TikTok run (23,366 rows x 48), where the experts dominate the step, and a shared
bottom with 36 million embedding parameters, where the tables do. Each rank trains on 4,096 samples per step, as one
rank does. Losses are compared over 50 steps of 512 samples of all ranks together. Writes ``results/two_ranks.json``.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from timing import machine, row, spread
from torch import Tensor, distributed, multiprocessing, nn
from torch.nn.parallel import DistributedDataParallel

from stemlab.data.batch import ImpressionBatch
from stemlab.models.multitask.shared_bottom import SharedBottom
from stemlab.models.multitask.stem import STEM
from stemlab.nn.embedding import field_embeddings
from stemlab.nn.loss import task_losses
from stemlab.nn.sharded.layout import Division, TableLayout
from stemlab.nn.sharded.network import shard_tables, sharded_weights
from stemlab.optim import OptimConfig, Penalty, build_optimizer, clip_gradients
from stemlab.optim.sharded import ShardedNorm
from stemlab.runs.allocator import keep_freed_memory

FIELDS = ("uid", "item_id", "author_id", "item_city", "channel", "music_id", "device_id", "video_duration")
TASKS = ("finish", "like")
SIZES = {
    "stem": (5_000, 6_000, 3_000, 300, 6, 4_000, 5_000, 60),
    "shared_bottom": (600_000, 1_200_000, 250_000, 400, 7, 100_000, 99_500, 100),
}
LAYOUTS = ("one rank", "replicated", "row_sharded", "column_sharded")
BATCH, COMPARED_STEPS, COMPARED_BATCH = 4096, 50, 512


class Step(nn.Module):
    """The loss of a network, for ``DistributedDataParallel``."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, batch: ImpressionBatch) -> Tensor:
        """Return the loss of a batch."""
        assert batch.labels_BT is not None
        return task_losses(self.net(batch).logit_BT, batch.labels_BT).sum()


def make_net(name: str) -> nn.Module:
    fields, common = dict(zip(FIELDS, SIZES[name], strict=True)), {"embedding_dim": 16, "tower_hidden_units": [128, 64]}
    if name == "shared_bottom":
        return SharedBottom(fields, TASKS, bottom_hidden_units=[512, 256], **common)
    experts = {"expert_hidden_units": [512, 512, 512], "num_shared_experts": 8, "num_specific_experts": 1}
    return STEM(fields, TASKS, num_layers=1, gate_hidden_units=[128, 64], **experts, **common)


def batches(name: str, size: int, rank: int, ranks: int) -> Iterator[ImpressionBatch]:
    """Yield the batches of a rank: its share of ``size`` samples with skewed ids."""
    generator, sizes = torch.Generator().manual_seed(1), torch.tensor(SIZES[name])
    while True:
        draw = torch.rand(size, len(sizes), generator=generator) ** 3
        ids_BF = (1 + draw * (sizes - 1)).long().minimum(sizes - 1)
        labels_BT = (torch.rand(size, len(TASKS), generator=generator) < torch.tensor([0.37, 0.05])).float()
        share = slice(rank * size // ranks, (rank + 1) * size // ranks)
        yield ImpressionBatch(ids_BF[share], labels_BT[share])


def train(rank: int, ranks: int, name: str, layout: str, steps: int, size: int) -> dict[str, Any]:
    """Return seconds per step, losses, and memory of the tables of this rank."""
    torch.manual_seed(0)
    net = make_net(name)
    step: nn.Module = Step(net)
    parts: list[nn.Parameter] = []
    if layout in ("row_sharded", "column_sharded"):
        division: Division = "row_sharded" if layout == "row_sharded" else "column_sharded"
        chosen = {embedding: range(len(embedding.tables)) for embedding in field_embeddings(net)}
        shard_tables(net, chosen, TableLayout(division, rank, ranks), distributed.new_group())
        names = [f"net.{weight}" for weight, _, _ in sharded_weights(net)]
        DistributedDataParallel._set_params_and_buffers_to_ignore_for_model(step, names)
        parts = [tables.tables[position].weight for _, tables, position in sharded_weights(net)]
    if ranks > 1:
        step = DistributedDataParallel(step, find_unused_parameters=name == "stem", gradient_as_bucket_view=True)
    optimizer = build_optimizer(net, OptimConfig(), Penalty(l2=1e-6), Penalty())
    optimizer.sharded_norm = ShardedNorm(parts) if parts else None
    seconds, losses = [], []
    for batch, _ in zip(batches(name, size, rank, ranks), range(steps), strict=False):
        start = time.perf_counter()
        optimizer.zero_grad()
        loss = step(batch)
        loss.backward()
        clip_gradients(optimizer, 10.0)
        optimizer.step()
        total = loss.detach().double()
        if ranks > 1:
            distributed.all_reduce(total)
        losses.append(float(total) / ranks)
        seconds.append(time.perf_counter() - start)
    tables = [weight for embedding in field_embeddings(net) for weight in embedding.weights()]
    states = [value for weight in tables for value in optimizer.state[weight].values()]
    held = [*tables, *(weight.grad for weight in tables if weight.grad is not None), *states]
    return {
        "seconds": seconds,
        "losses": losses,
        "table_bytes": sum(tensor.numel() * tensor.element_size() for tensor in held),
        "peak_rss_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }


def in_rank(rank: int, ranks: int, store: str, arguments: tuple[Any, ...], output: str) -> None:
    torch.set_num_threads(1)
    keep_freed_memory()
    if ranks > 1:
        distributed.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=ranks)
    result = train(rank, ranks, *arguments)
    Path(f"{output}.{rank}").write_text(json.dumps(result))
    if ranks > 1:
        distributed.destroy_process_group()


def run(layout: str, name: str, steps: int, size: int) -> list[dict[str, Any]]:
    """Train in processes of their own; return the result of every rank. ``size`` is that of all ranks together."""
    ranks = 1 if layout == "one rank" else 2
    with tempfile.TemporaryDirectory() as folder:
        arguments = (ranks, f"{folder}/store", (name, layout, steps, size), f"{folder}/result")
        multiprocessing.spawn(in_rank, arguments, nprocs=ranks)
        return [json.loads(Path(f"{folder}/result.{rank}").read_text()) for rank in range(ranks)]


def speed(name: str, layouts: list[str], rounds: int, steps: int) -> dict[str, dict[str, Any]]:
    """Measure layouts in turn, ``rounds`` times; the first step of each is warm-up."""
    found: dict[str, dict[str, Any]] = {layout: {"samples_per_s": []} for layout in layouts}
    for _ in range(rounds):
        for layout in layouts:
            size = BATCH if layout == "one rank" else 2 * BATCH
            results = run(layout, name, steps + 1, size)
            found[layout]["samples_per_s"].append(size / statistics.median(results[0]["seconds"][1:]))
            found[layout] |= {key: max(result[key] for result in results) for key in ("table_bytes", "peak_rss_mb")}
            print(name, layout, found[layout], flush=True)
    return found


def compare_losses(name: str) -> dict[str, float]:
    """Return layout -> largest difference of the losses to one rank on the same samples."""
    losses = {layout: run(layout, name, COMPARED_STEPS, COMPARED_BATCH)[0]["losses"] for layout in LAYOUTS}
    one = losses.pop("one rank")
    found = {layout: max(abs(a - b) for a, b in zip(own, one, strict=True)) for layout, own in losses.items()}
    print(name, "largest difference of losses", found, flush=True)
    return found


def table_rows(nets: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the rows of the table: speed against one rank, memory of the tables against whole ones."""
    rows = []
    for name, found in nets.items():
        one, shown = found["speed"].get("one rank"), f"{name}, {found['rows']:,} embedding rows"
        for layout, values in found["speed"].items():
            if one is not None and layout != "one rank":
                pairs = zip(values["samples_per_s"], one["samples_per_s"], strict=True)
                what = f"two ranks, one thread each, {shown}, trainer.embedding={layout}"
                rows.append(row(what, "one rank, samples/s", spread([ours / theirs for ours, theirs in pairs])))
    for layout, values in nets.get("shared_bottom", {}).get("speed", {}).items():
        if layout.endswith("sharded"):
            ratio = values["table_bytes"] / nets["shared_bottom"]["speed"]["replicated"]["table_bytes"]
            what = f"two ranks, memory of the tables of a rank, trainer.embedding={layout}"
            rows.append(row(what, "trainer.embedding=replicated", spread([ratio])))
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=4, help="measured steps per round")
    parser.add_argument("--layouts", nargs="+", choices=LAYOUTS, default=list(LAYOUTS))
    parser.add_argument("--nets", nargs="+", choices=list(SIZES), default=list(SIZES))
    parser.add_argument("--without", nargs="*", choices=("speed", "losses"), default=())
    parser.add_argument("--output", type=Path, default=Path(__file__).parent / "results" / "two_ranks.json")
    chosen = parser.parse_args()
    nets: dict[str, Any] = json.loads(chosen.output.read_text())["nets"] if chosen.output.exists() else {}
    for name in chosen.nets:
        entry = nets.setdefault(name, {"rows": sum(SIZES[name]), "batch_per_rank": BATCH, "speed": {}})
        if "speed" not in chosen.without:
            entry["speed"] = speed(name, chosen.layouts, chosen.rounds, chosen.steps)
        if "losses" not in chosen.without:
            entry["losses"] = compare_losses(name)
        found = {**machine(threads=1), "nets": nets, "rows": table_rows(nets)}
        chosen.output.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()

"""Data and metrics on one GPU against the CPU: equal samples, equal values, time.

    python scripts/bench/gpu_data.py                # under 30 seconds
    python scripts/bench/gpu_data.py --device cpu   # checks the script itself

Prints one line per measurement: blocks of training steps (impressions of the shape of TikTok, sequences of the shape
of ML-1M) with columns on the device and in main memory, evaluation metrics of one million predictions, ranks among all
items, error of a recurrent network in float32 and in TF32. Writes ``results/gpu_data.json`` (see ``--output``).
"""

from __future__ import annotations

import argparse
import itertools
import json
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch

from stemlab.data.batch_order import ShuffledOrder
from stemlab.data.blocks import BlockLoader
from stemlab.data.loader import BatchLoader, OrderedLoader
from stemlab.data.sequence.loader import SequenceLoader
from stemlab.data.sequence.log import Instances, InteractionLog
from stemlab.data.sequence.negatives import NegativeSampler
from stemlab.data.sequence.prepare import prepare_sequences
from stemlab.data.sequence.raw import RawSequences
from stemlab.metrics import MultiTaskMetrics
from stemlab.metrics.catalogue import Catalogue, SeenItems
from stemlab.runs.numerics import numeric_mode

STEPS, BATCH, FIELDS, USERS, ITEMS = 100, 4096, 8, 6040, 3706
Results = dict[str, float]


def seconds(work: Callable[[], Any], device: torch.device) -> float:
    """Return the time of ``work``, with the work that it leaves on the device."""
    if device.type == "cuda":
        torch.cuda.synchronize()
    start = time.perf_counter()
    work()
    if device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - start


def impressions(rows: int) -> Any:
    """Return columns of random impressions: 8 ids, 2 labels, a group key."""
    rng = np.random.default_rng(0)
    return SimpleNamespace(
        ids=rng.integers(0, 20_000, (rows, FIELDS), dtype=np.int32),
        labels=rng.integers(0, 2, (rows, 2), dtype=np.int8),
        group=rng.integers(0, 50_000, rows),
        dense=None,
        scenario=None,
    )


def sequences(folder: Path, rows: int) -> SequenceLoader:
    """Return a loader of training samples of random sequences with two negatives per sample."""
    rng = np.random.default_rng(0)
    user = np.sort(rng.integers(1, USERS + 1, rows))
    last_R = np.append(user[1:] != user[:-1], True)
    split_R = np.where(last_R, 2, np.where(np.append(last_R[1:], False), 1, 0))
    raw = RawSequences(
        user=user,
        item=rng.integers(1, ITEMS + 1, rows),
        time=np.arange(rows, dtype=np.int64),
        split=split_R.astype(np.int64),
        user_tokens=[str(n) for n in range(1, USERS + 1)],
        item_tokens=[str(n) for n in range(1, ITEMS + 1)],
    )
    directory = prepare_sequences(lambda advance: raw, name="b", reader="b/1", settings={}, files=[], root=folder)
    log, instances = InteractionLog(directory), Instances(directory, "train")
    sampler = NegativeSampler(log.user[instances.row], log.pairs(0), items=ITEMS, count=1, seed=0)
    order = ShuffledOrder(len(instances), 256, seed=1)
    return SequenceLoader(log, instances, order, sampler, history_max=20, times=True)


def read_epoch(blocks: BlockLoader[Any]) -> None:
    """Gather all steps of an epoch."""
    for block in blocks:
        for step in range(block.steps):
            block.batch(step)


def steps_of(blocks: BlockLoader[Any]) -> Iterator[Any]:
    """Yield the batches of all steps."""
    for block in blocks:
        for step in range(block.steps):
            yield block.batch(step)


def measure_blocks(name: str, new: Callable[[], OrderedLoader[Any]], device: torch.device) -> Results:
    """Return seconds and samples per second of an epoch, and the number of compared tensors that differ."""
    results: Results = {}
    for residence in ("device", "host"):
        blocks, eager = BlockLoader(new(), STEPS, device, residence), new()
        different = 0
        for batch, expected in itertools.islice(zip(steps_of(blocks), eager, strict=False), 150):
            for key, tensor in expected.tensors().items():
                found = batch.tensors()[key].cpu()
                width = tuple(slice(0, size) for size in tensor.shape)
                different += not torch.equal(found[width], tensor)
        blocks.set_epoch(1)
        first = seconds(partial(read_epoch, blocks), device)
        blocks.set_epoch(2)
        second = seconds(partial(read_epoch, blocks), device)
        samples = len(eager.order) * eager.order.batch_length(0)
        results |= {
            f"{name} {residence}: tensors that differ": different,
            f"{name} {residence}: seconds of the first epoch": first,
            f"{name} {residence}: seconds of the next epoch": second,
            f"{name} {residence}: million samples/s": samples / second / 1e6,
        }
    return results


def measure_metrics(rows: int, device: torch.device) -> Results:
    """Return seconds of the evaluation metrics of two tasks with groups, and the largest difference from the CPU."""
    rng = np.random.default_rng(0)
    prob = torch.from_numpy(rng.random((rows, 2), dtype=np.float32))
    labels = torch.from_numpy((rng.random((rows, 2)) < 0.2).astype(np.int8))
    group = torch.from_numpy(rng.integers(0, 70_000, rows))
    results: Results = {}
    values: list[dict[str, float]] = []
    for where in (torch.device("cpu"), device, device):
        parts = [[part.to(where) for part in tensor.split(16_384)] for tensor in (prob, labels, group)]
        metrics = MultiTaskMetrics(("finish", "like"))

        def run(metrics: MultiTaskMetrics = metrics, parts: list[list[torch.Tensor]] = parts) -> None:
            for prob_BT, labels_BT, group_B in zip(*parts, strict=True):
                metrics.update(prob_BT, labels_BT, group_B, group_B)
            values.append(metrics.compute())

        results[f"metrics of {rows:,} samples on {where.type}: seconds"] = seconds(run, where)
    results["metrics: largest difference"] = max(abs(values[0][name] - values[-1][name]) for name in values[0])
    return results


def measure_ranks(device: torch.device) -> Results:
    """Return seconds of the ranks of all users among all items, and the number of ranks that differ from the CPU."""
    generator = torch.Generator().manual_seed(0)
    user = torch.randn(USERS, 4, 64, generator=generator)
    catalogue, positive = torch.randn(ITEMS + 1, 64, generator=generator), torch.arange(USERS) % ITEMS + 1
    seen = SeenItems(torch.randint(1, ITEMS + 1, (USERS * 160,), generator=generator), torch.arange(USERS + 1) * 160)
    expected = Catalogue(catalogue).ranks(user[:512], positive[:512], seen.of_users(0, 512), "pessimistic")
    on_device = Catalogue(catalogue.to(device))
    inputs = user.to(device), positive.to(device), SeenItems(seen.item_S.to(device), seen.offset_O.to(device))
    found = on_device.ranks(*inputs, "pessimistic")
    return {
        "ranks among all items: different": int((found[:512].cpu() != expected).sum()),
        "ranks among all items: seconds": seconds(lambda: on_device.ranks(*inputs, "pessimistic"), device),
    }


def measure_precision(device: torch.device) -> Results:
    """Return the largest errors of a GRU against float64."""
    torch.manual_seed(0)
    gru, x = torch.nn.GRU(64, 64, batch_first=True).double(), torch.randn(256, 20, 64).double()
    exact = gru(x)[0]
    on_device, errors = gru.float().to(device), {}
    for precision in ("32-true", "tf32"):
        with numeric_mode({"accelerator": "gpu", "precision": precision, "kernels": None}):
            found = on_device(x.float().to(device))[0].cpu().double()
        errors[f"GRU {precision}: error"] = float((found - exact).abs().max().detach())
    return errors


def main() -> None:
    """Measure, print and write the results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--rows", type=int, default=4_000_000, help="impressions of an epoch")
    parser.add_argument("--output", type=Path, default=Path(__file__).parent / "results" / "gpu_data.json")
    chosen = parser.parse_args()
    device, results = torch.device(chosen.device), {}
    with tempfile.TemporaryDirectory() as folder:
        sequence_rows = min(1_000_000, chosen.rows)
        log = sequences(Path(folder), sequence_rows)

        columns = impressions(chosen.rows)

        def new_impressions() -> BatchLoader:
            return BatchLoader(columns, ShuffledOrder(chosen.rows, BATCH, seed=1))

        def new_sequences() -> SequenceLoader:
            order = ShuffledOrder(len(log.instances), 256, seed=1)
            return SequenceLoader(log.log, log.instances, order, log.negatives, history_max=20, times=True)

        for measured in (
            lambda: measure_blocks("impressions", new_impressions, device),
            lambda: measure_blocks("sequences", new_sequences, device),
            lambda: measure_metrics(min(1_000_000, chosen.rows), device),
            lambda: measure_ranks(device),
            lambda: measure_precision(device),
        ):
            found = measured()
            results |= found
            for name, value in found.items():
                print(f"{name}: {value:.6g}", flush=True)
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu"
    chosen.output.write_text(json.dumps({"device": name, "torch": torch.__version__, **results}, indent=1) + "\n")


if __name__ == "__main__":
    main()

"""Training batches of a split that fits in memory and of one that does not: memory-mapped, and read in blocks.

    python scripts/bench/larger_than_memory.py            # 8 and 24 million rows; results/larger_than_memory.json
    python scripts/bench/larger_than_memory.py --rows 2000000 --large 4000000 --rounds 1

Batch size 4096, rows of the TikTok dataset (8 ids, 2 labels, group), one thread besides the one that reads ahead. The
split that fits is read alone and with a training step of a small network (embeddings of width 8, one layer of 64 units,
SGD). The large split is read alone in a process whose control group may use ``--share`` of the size of the split, page
cache included (needs root and Linux; otherwise the process is not limited and the file says so). Memory-mapped, it is
read for ``MAPPED_S`` seconds with an empty page cache: the file has this speed, no row of the table does.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import timing
import torch
from torch import nn
from torch.nn import functional

from stemlab.data.batch_order import ShuffledOrder
from stemlab.data.loader import BatchLoader
from stemlab.data.store import ColumnStore, StoreWriter
from stemlab.data.window_loader import WindowLoader
from stemlab.data.window_order import WINDOW_ROWS, WindowedOrder

RESULT = Path(__file__).parent / "results" / "larger_than_memory.json"
BATCH, CHUNK = 4096, 1 << 20
FIELDS = tuple(f"field_{k}" for k in range(8))
MAPPED_S = 120.0
GROUPS = Path("/sys/fs/cgroup")


def write_split(path: Path, rows: int) -> None:
    rng = np.random.default_rng(0)
    with StoreWriter(path, rows, FIELDS, ("finish", "like")) as writer:
        for start in range(0, rows, CHUNK):
            count = min(CHUNK, rows - start)
            ids = rng.integers(0, 1 << 20, (count, len(FIELDS)), dtype=np.int32)
            labels = rng.integers(0, 2, (count, 2), dtype=np.int8)
            writer.append(ids, labels, rng.integers(0, 1 << 20, count))


def loader(path: Path, reading: str) -> BatchLoader:
    store = ColumnStore(path)
    if reading == "blocks":
        return WindowLoader(store, WindowedOrder(len(store), BATCH, 1, window_rows=WINDOW_ROWS))
    return BatchLoader(store, ShuffledOrder(len(store), BATCH, 1))


def epoch(path: Path, reading: str) -> None:
    for _ in loader(path, reading):
        pass


def training(path: Path, reading: str) -> None:
    """Read an epoch and train on its batches."""
    torch.manual_seed(0)
    table = nn.Embedding(1 << 20, 8, sparse=True)
    net = nn.Sequential(nn.Linear(8 * len(FIELDS), 64), nn.ReLU(), nn.Linear(64, 2))
    optimizer = torch.optim.SGD([*table.parameters(), *net.parameters()], lr=0.1)
    for batch in loader(path, reading):
        logits_BT = net(table(batch.ids_BF).flatten(1))
        optimizer.zero_grad()
        functional.binary_cross_entropy_with_logits(logits_BT, batch.labels_BT.float()).backward()
        optimizer.step()


def resident_bytes() -> int:
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmRSS"))


def drop_cache(path: Path) -> None:
    """Remove a file from the page cache, so that its pages are charged to the process that reads it."""
    with path.open("rb") as file:
        os.fsync(file.fileno())
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


class Limit:
    """Control group with a memory limit, a child of the group of this process; removed at the end."""

    def __init__(self, size: int) -> None:
        self.folder: Path | None = None
        lines = Path("/proc/self/cgroup").read_text(encoding="ascii").splitlines()
        groups = {controllers: path.lstrip("/") for _, controllers, path in (line.split(":", 2) for line in lines)}
        one = "memory" in groups
        parent = GROUPS / "memory" / groups["memory"] if one else GROUPS / groups.get("", "")
        folder = parent / f"larger-than-memory-{os.getpid()}"
        try:
            folder.mkdir()
            self.folder = folder
            (folder / ("memory.limit_in_bytes" if one else "memory.max")).write_text(str(size))
        except OSError as error:
            print(f"no memory limit ({error})", file=sys.stderr)
            self.remove()

    def remove(self) -> None:
        """Remove the group, which no process is in any more."""
        if self.folder is not None:
            self.folder.rmdir()
            self.folder = None


def run_child(path: Path, reading: str, group: str) -> None:
    """Read one epoch (memory-mapped: for ``MAPPED_S``) and print speed and resident memory in tenths of it."""
    if group:
        (Path(group) / "cgroup.procs").write_text(str(os.getpid()))
    batches = loader(path, reading)
    resident, start, steps = [], time.perf_counter(), 0
    for steps, _ in enumerate(batches, start=1):
        if steps * 10 // len(batches) > len(resident):
            resident.append(resident_bytes())
        if reading == "memory" and time.perf_counter() - start > MAPPED_S:
            break
    speed = steps * BATCH / (time.perf_counter() - start)
    print(json.dumps({"samples_per_s": speed, "steps": steps, "resident_bytes": resident}))


def measure_large(path: Path, rows: int, share: float) -> dict[str, Any]:
    write_split(path, rows)
    size = path.stat().st_size
    limit = Limit(int(size * share))
    try:
        found: dict[str, Any] = {"bytes": size, "memory_limit": int(size * share) if limit.folder else None}
        for reading in ("blocks", "memory"):
            drop_cache(path)
            command = [sys.executable, __file__, "--child", str(path), reading, str(limit.folder or "")]
            ended = subprocess.run(command, check=True, capture_output=True, text=True)
            found[reading] = json.loads(ended.stdout.splitlines()[-1])
            print(reading, found[reading], flush=True)
    finally:
        limit.remove()
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=8_000_000, help="rows of the split that fits in memory")
    parser.add_argument("--large", type=int, default=24_000_000, help="rows of the split that does not")
    parser.add_argument("--share", type=float, default=0.6, help="memory of the process as a share of that split")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--output", type=Path, default=RESULT)
    parser.add_argument("--child", nargs=3, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    if arguments.child:
        run_child(Path(arguments.child[0]), arguments.child[1], arguments.child[2])
        return
    with tempfile.TemporaryDirectory(prefix="larger-than-memory-") as folder:
        path = Path(folder) / "train.arrow"
        write_split(path, arguments.rows)
        acts = {
            f"{work.__name__}, {reading}": partial(work, path, reading)
            for work in (epoch, training)
            for reading in ("memory", "blocks")
        }
        wall, cpu = timing.alternate(acts, arguments.rounds, warmup=1)
        print({name: arguments.rows / np.median(seconds) for name, seconds in wall.items()}, flush=True)
        large = measure_large(path, arguments.large, arguments.share)
    blocks = large["blocks"]
    growth = blocks["resident_bytes"][-1] / blocks["resident_bytes"][1]
    under_limit = f"training batches in blocks, {arguments.large:,} rows"
    if large["memory_limit"]:
        under_limit += f", memory {arguments.share:.0%} of the columns"
    in_memory = [arguments.rows / seconds for seconds in wall["epoch, memory"]]
    speed = timing.spread([blocks["samples_per_s"] / rate for rate in in_memory])
    result = {
        **timing.machine(1),
        "batch": BATCH,
        "window_rows": WINDOW_ROWS,
        "fits": {"rows": arguments.rows, "seconds": wall, "cpu_seconds": cpu},
        "exceeds": {"rows": arguments.large, **large},
        "rows": [
            *(
                timing.row(
                    f"{what} in blocks, {arguments.rows:,} rows in memory",
                    "memory-mapped columns",
                    timing.paired_ratio(wall[f"{name}, memory"], wall[f"{name}, blocks"]),
                )
                for name, what in (("epoch", "training batches"), ("training", "small network, training"))
            ),
            timing.row(under_limit, f"memory-mapped columns, {arguments.rows:,} rows in memory", speed),
            timing.row("resident memory at the end of this epoch", "after a fifth of it", timing.spread([growth])),
        ],
    }
    arguments.output.parent.mkdir(parents=True, exist_ok=True)
    arguments.output.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()

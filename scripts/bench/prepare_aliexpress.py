"""Preparation of AliExpress NL from raw file pairs: rows per second and peak memory at two sizes.

    python scripts/bench/prepare_aliexpress.py  # 2 and 12 million rows, results/prepare_aliexpress.json
    python scripts/bench/prepare_aliexpress.py --rows 200000 400000

Generated files have the publisher's columns, with ten items per page; the real NL has 12,157,895 training rows. The
pages of the user file are in another order than those of the item file, so every block of items goes to all join
partitions. Each measurement runs in a new process; its peak memory is VmHWM (peak resident set size). Twelve million
rows need 16 GB of temporary disk space under TMPDIR.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv
import yaml

from stemlab.data.sources.aliexpress_columns import ITEM_FILE, LABEL_COLUMN, SEARCH_COLUMN, USER_FILE

ROOT = Path(__file__).resolve().parents[2]
RESULT = Path(__file__).parent / "results" / "prepare_aliexpress.json"
PAGE_SIZE = 10
TEST_SHARE = 0.1
CHUNK = 200_000
LABELS = (0.975, 0.023, 0.002)  # shown, clicked, bought; about the real rates


def generate(folder: Path, rows: int) -> None:
    """Write the four files; a tenth of the rows are test rows."""
    rng = np.random.default_rng(0)
    for split, share in (("train", 1 - TEST_SHARE), ("test", TEST_SHARE)):
        count = round(rows * share)
        pages = -(-count // PAGE_SIZE)
        write(folder / f"nl_user_{split}.csv", USER_FILE, rng.permutation(pages), rng)
        write(folder / f"nl_item_{split}.csv", ITEM_FILE, np.arange(count) // PAGE_SIZE, rng)


def write(path: Path, header: Sequence[str], searches: np.ndarray, rng: np.random.Generator) -> None:
    options = pyarrow.csv.WriteOptions(include_header=False)
    with path.open("wb") as file:
        for start in range(0, len(searches), CHUNK):
            part = searches[start : start + CHUNK]
            table = {name: part if name == SEARCH_COLUMN else column(rng, name, len(part)) for name in header}
            pyarrow.csv.write_csv(pa.table(table), file, options)


def column(rng: np.random.Generator, name: str, rows: int) -> np.ndarray:
    if name == LABEL_COLUMN:
        return rng.choice(len(LABELS), rows, p=LABELS)
    if name.startswith("categorical"):
        return (50 * rng.random(rows) ** 3).astype(np.int64)
    return np.where(rng.random(rows) < 0.4, 0.0, np.round(rng.random(rows), 6))


def run_child(folder: Path, data_dir: Path) -> None:
    from stemlab.config.instantiate import import_target, instantiate

    node = yaml.safe_load((ROOT / "conf" / "dataset" / "aliexpress.yaml").read_text(encoding="utf-8"))
    node |= {"raw_dir": str(folder), "data_dir": str(data_dir), "source": "raw", "scenarios": ["nl"], "seed": 0}
    import_target(node)  # the import of torch counts in memory, not in time
    start, cpu, before = time.perf_counter(), time.process_time(), peak_bytes()
    module = instantiate(node)
    module.prepare()
    result = {
        "rows": sum(module.manifest["rows"].values()),
        "seconds": time.perf_counter() - start,
        "cpu_seconds": time.process_time() - cpu,
        "peak_bytes": peak_bytes(),
        "peak_bytes_before": before,
    }
    print(json.dumps(result))


def peak_bytes() -> int:
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM"))


def measure(rows: int) -> dict[str, float]:
    with tempfile.TemporaryDirectory(prefix="aliexpress-bench-") as name:
        folder = Path(name) / "raw"
        folder.mkdir()
        generate(folder, rows)
        size = sum(path.stat().st_size for path in folder.iterdir())
        words = [sys.executable, __file__, "--child", str(folder), str(Path(name) / "data")]
        done = subprocess.run(words, check=True, capture_output=True, text=True)
        prepared = sum(path.stat().st_size for path in Path(name, "data").rglob("*") if path.is_file())
        shutil.rmtree(Path(name) / "data")
    result = json.loads(done.stdout.splitlines()[-1])
    result |= {"rows_per_s": result["rows"] / result["seconds"], "raw_bytes": size, "prepared_bytes": prepared}
    print(json.dumps(result), flush=True)
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, nargs="+", default=[2_000_000, 12_000_000])
    parser.add_argument("--output", type=Path, default=RESULT)
    parser.add_argument("--child", type=Path, nargs=2, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        run_child(*arguments.child)
        return
    ours = [measure(rows) for rows in arguments.rows]
    result = {
        "what": "AliExpress NL from raw pairs, generated rows: hash, parse, join, split, vocabularies, encode, write",
        "machine": {"cpu_count": len(os.sched_getaffinity(0)), "platform": platform.platform()},
        "ours": ours,
        "peak_growth": [b["peak_bytes"] / a["peak_bytes"] for a, b in itertools.pairwise(ours)],
    }
    arguments.output.parent.mkdir(parents=True, exist_ok=True)
    arguments.output.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()

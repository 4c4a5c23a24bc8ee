"""Preparation of TikTok: rows per second compared with row-wise pandas encoding, and peak memory at two sizes.

    python scripts/bench/prepare.py            # 5 and 20 million generated rows; writes results/prepare.json
    python scripts/bench/prepare.py --rows 1000000 2000000 --slice 100000

Generated rows have the columns of the real file and about the same numbers of distinct ids. Each measurement runs in a
new process; its peak memory is VmHWM (peak resident set size).
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
from collections import Counter
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv
import yaml

ROOT = Path(__file__).resolve().parents[2]
RESULT = Path(__file__).parent / "results" / "prepare.json"
FIELDS = ("uid", "item_id", "author_id", "item_city", "channel", "music_id", "device_id", "video_duration")
# Raw column -> number of distinct values, about as in track 1 (public counts).
SIZES = {
    **{"uid": 636_281, "user_city": 397, "item_id": 4_122_604, "author_id": 850_299, "item_city": 462, "channel": 5},
    **{"finish": 2, "like": 2, "music_id": 89_779, "device_id": 75_085, "create_time": 6_000_000, "video_duration": 60},
}
RATES = {"finish": 0.37, "like": 0.012}
CHUNK = 500_000
WHOLE_FILE = 275_855_531


def generate(path: Path, rows: int, seed: int = 0) -> None:
    rng = np.random.default_rng(seed)
    options = pyarrow.csv.WriteOptions(include_header=False, delimiter="\t")
    with path.open("wb") as file:
        for start in range(0, rows, CHUNK):
            count = min(CHUNK, rows - start)
            columns = {name: column(rng, name, size, count) for name, size in SIZES.items()}
            pyarrow.csv.write_csv(pa.table(columns), file, options)


def column(rng: np.random.Generator, name: str, size: int, count: int) -> np.ndarray:
    if name in RATES:
        return (rng.random(count) < RATES[name]).astype(np.int64)
    if name == "create_time":
        return 53_085_000_000 + rng.integers(size, size=count)
    popular = (size * rng.random(count) ** 3).astype(np.int64)  # density proportional to x ** (-2/3)
    return popular - 1 if name in ("user_city", "item_city", "music_id") else popular


def clocks() -> tuple[float, float]:
    return time.perf_counter(), time.process_time()


def since(start: tuple[float, float]) -> dict[str, float]:
    """Return wall-clock seconds and CPU seconds of all threads; other programs disturb CPU time less."""
    wall, cpu = clocks()
    return {"seconds": wall - start[0], "cpu_seconds": cpu - start[1]}


def prepare_ours(path: Path, data_dir: Path, rule: str = "random") -> dict[str, float]:
    from stemlab.config.instantiate import import_target, instantiate

    node = yaml.safe_load((ROOT / "conf" / "dataset" / "tiktok.yaml").read_text(encoding="utf-8"))
    node |= {"raw_dir": str(path.parent), "raw_file": path.name, "data_dir": str(data_dir), "seed": 0}
    node["split"]["rule"] = rule
    if rule == "dates":  # the last two tenths of the generated times
        first, tenth = 53_085_000_000, SIZES["create_time"] // 10
        node["split"] |= {"valid_from": first + 8 * tenth, "test_from": first + 9 * tenth}
    import_target(node)  # torch's import is not measured
    start = clocks()
    instantiate(node).prepare()
    return since(start)


def prepare_pandas(path: Path, rows: int, row_wise: str) -> dict[str, float]:
    """Baseline: read the whole file with pandas, split, count, and look up each value row by row."""
    import pandas as pd
    from sklearn.model_selection import train_test_split

    start = clocks()
    frame = pd.read_csv(path, sep="\t", header=None, names=list(SIZES), nrows=rows)
    read = since(start)["seconds"]
    rest, _ = train_test_split(np.arange(rows), test_size=0.1, random_state=42)
    train, _ = train_test_split(rest, test_size=0.1, random_state=42)
    maps = [vocabulary(frame[name].iloc[train]) for name in FIELDS]
    if row_wise == "apply":
        encoded = frame[list(FIELDS)].apply(
            lambda row: [m.get(str(v), len(m) + 1) for m, v in zip(maps, row, strict=True)], axis=1
        )
    else:
        encoded = [
            [m.get(str(v), len(m) + 1) for m, v in zip(maps, row, strict=True)]
            for row in frame[list(FIELDS)].itertuples(index=False)
        ]
    np.array(list(encoded), dtype=np.int32)
    return {**since(start), "read_csv_seconds": read}


def split_only(rows: int) -> dict[str, float]:
    """Measure the only part whose memory grows with the rows: two permutations and one code per row."""
    from stemlab.data.prepare.split import SplitRule, random_codes

    start = clocks()
    random_codes(rows, SplitRule())
    return since(start)


def vocabulary(values: object, min_count: int = 10) -> dict[str, int]:
    counts = Counter(map(str, values))
    kept = sorted((token for token, count in counts.items() if count >= min_count), key=lambda t: (-counts[t], t))
    return {token: number for number, token in enumerate(kept, start=1)}


def peak_bytes() -> int:
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM"))


def child(*words: str) -> dict[str, float]:
    done = subprocess.run([sys.executable, __file__, "--child", *words], check=True, capture_output=True, text=True)
    return json.loads(done.stdout.splitlines()[-1])


def run_child(words: list[str]) -> None:
    way, path, rows, where = words[0], Path(words[1]), int(words[2]), Path(words[3])
    if way == "split":
        result = split_only(rows)
    else:
        result = prepare_ours(path, where, *words[4:]) if way == "ours" else prepare_pandas(path, rows, way)
    result |= {"rows": rows, "rows_per_s": rows / result["seconds"], "peak_bytes": peak_bytes()}
    print(json.dumps(result))


def measure(rows: list[int], slice_rows: int, folder: Path) -> dict[str, object]:
    ours = []
    for count in rows:
        path = folder / f"rows{count}.txt"
        generate(path, count)
        ours.append(child("ours", str(path), str(count), str(folder / "data")))
        ours[-1]["raw_bytes"] = path.stat().st_size
        shutil.rmtree(folder / "data")
        print(json.dumps(ours[-1]), flush=True)
    first = folder / f"rows{rows[0]}.txt"
    pandas = {way: child(way, str(first), str(slice_rows), str(folder)) for way in ("itertuples", "apply")}
    return {
        "what": "TikTok preparation, generated rows: hash, parse, split, vocabularies, encode, write",
        "machine": {"cpu_count": len(os.sched_getaffinity(0)), "platform": platform.platform()},
        "ours": ours,
        "pandas_read_csv_then_row_wise": pandas,
        "times_faster_than": {way: best(ours, "seconds") / best([it], "seconds") for way, it in pandas.items()},
        "times_less_cpu_than": {
            way: best(ours, "cpu_seconds") / best([it], "cpu_seconds") for way, it in pandas.items()
        },
        "random_split_of_the_whole_file": child("split", str(first), str(WHOLE_FILE), str(folder)),
        "peak_growth": [b["peak_bytes"] / a["peak_bytes"] for a, b in itertools.pairwise(ours)],
    }


def best(results: list[dict[str, float]], clock: str) -> float:
    """Return the largest number of rows per second by that clock."""
    return max(result["rows"] / result[clock] for result in results)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, nargs="+", default=[5_000_000, 20_000_000])
    parser.add_argument("--slice", type=int, default=300_000, help="rows that pandas prepares")
    parser.add_argument("--output", type=Path, default=RESULT)
    parser.add_argument("--child", nargs="+", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        run_child(arguments.child)
        return
    with tempfile.TemporaryDirectory(prefix="prepare-bench-") as folder:
        result = measure(arguments.rows, arguments.slice, Path(folder))
    arguments.output.parent.mkdir(parents=True, exist_ok=True)
    arguments.output.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()

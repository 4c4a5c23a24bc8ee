"""Preparation of TikTok as whole commands: ``stemlab.prepare`` and the published commands, start-up included.

    python scripts/bench/prepare_commands.py --published DIR [--rows 2000000] [--rounds 1]

DIR is a checkout of LiangcaiSu/STEM (docs/benchmarks.md). Its commands are ``preprocess.py`` (read, split, write csv
files) and the first part of ``run_expid.py`` (``build_dataset``: vocabularies, encoding, h5 files), with its dataset
configuration; they need the packages h5py and Keras-Preprocessing. Generated rows as in ``prepare.py``. Commands take
turns; seconds are those of complete processes, CPU seconds include their child processes. Writes
``results/prepare_commands.json``.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import prepare
import timing

BUILD = """
import sys, yaml
sys.path.insert(0, sys.argv[1])
from fuxictr.preprocess import FeatureProcessor, build_dataset
with open(sys.argv[1] + "/config/dataset_config.yaml") as file:
    params = {**yaml.safe_load(file)["TiktokLarge"], "dataset_id": "TiktokLarge", "data_root": "./data"}
build_dataset(FeatureProcessor(**params), **params)
"""


def run(command: list[str], folder: Path) -> tuple[float, float]:
    """Return wall-clock and CPU seconds of a command that runs in a folder."""
    before, started = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"error: {' '.join(command[:3])} failed:\n{done.stderr[-2000:]}")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return time.perf_counter() - started, cpu


def stemlab(folder: Path, checkout: Path) -> tuple[float, float]:
    """Run ``stemlab.prepare`` on the raw file."""
    raw = [f"dataset.raw_dir={folder / 'raw_data'}", f"paths.data_dir={folder / 'stemlab'}"]
    command = [
        sys.executable,
        "-m",
        "stemlab.prepare",
        "dataset=tiktok",
        "dataset.raw_file=final_track1_train.txt",
        *raw,
    ]
    found = run(command, folder)
    shutil.rmtree(folder / "stemlab")
    return found


def published(folder: Path, checkout: Path) -> tuple[float, float]:
    """Run the published commands on the raw file."""
    data = folder / "data" / "TiktokLarge"
    data.mkdir(parents=True)
    (data / "raw_data").symlink_to(folder / "raw_data")
    split = run([sys.executable, str(checkout / "data" / "TiktokLarge" / "preprocess.py")], data)
    build = run([sys.executable, "-c", BUILD, str(checkout)], folder)
    shutil.rmtree(folder / "data")
    return split[0] + build[0], split[1] + build[1]


def measure(checkout: Path, rows: int, rounds: int) -> dict[str, Any]:
    ways = {"stemlab": stemlab, "published": published}
    wall: timing.Seconds = {name: [] for name in ways}
    cpu: timing.Seconds = {name: [] for name in ways}
    with tempfile.TemporaryDirectory(prefix="prepare-bench-") as name:
        folder = Path(name)
        (folder / "raw_data").mkdir()
        prepare.generate(folder / "raw_data" / "final_track1_train.txt", rows)
        for _ in range(rounds):
            for way, act in ways.items():
                seconds = act(folder, checkout)
                wall[way].append(seconds[0])
                cpu[way].append(seconds[1])
                print(way, *(f"{value:.1f} s" for value in seconds), flush=True)
    what = f"prepare, {rows:,} rows, whole commands"
    return {
        "machine": timing.machine(len(os.sched_getaffinity(0))),
        "rows_prepared": rows,
        "rounds": rounds,
        "seconds": {name: timing.spread(values) for name, values in wall.items()},
        "cpu_seconds": {name: timing.spread(values) for name, values in cpu.items()},
        "rows": [
            timing.row(what, "published commands", timing.paired_ratio(wall["published"], wall["stemlab"])),
            timing.row(
                f"{what}, CPU time", "published commands", timing.paired_ratio(cpu["published"], cpu["stemlab"])
            ),
        ],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--published", type=Path, metavar="DIR", required=True, help="checkout of LiangcaiSu/STEM")
    parser.add_argument("--rows", type=int, default=2_000_000)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--output", type=Path, default=Path(__file__).parent / "results" / "prepare_commands.json")
    arguments = parser.parse_args()
    result = measure(arguments.published.resolve(), arguments.rows, arguments.rounds)
    arguments.output.parent.mkdir(parents=True, exist_ok=True)
    arguments.output.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    print(json.dumps(result["rows"], indent=2))


if __name__ == "__main__":
    main()

"""Preparation of TikTok as whole commands, start-up included: stemlab against the published commands.

    python scripts/bench/prepare_command.py --published STEM      # 2 million rows; stemlab also 8 and 20 million
    python scripts/bench/prepare_command.py --published STEM --rows 200000 --more 400000 --rounds 1

``STEM`` is a checkout of LiangcaiSu/STEM. Its commands are ``data/TiktokLarge/preprocess.py`` (splits) and the part of
``run_expid.py`` that builds the dataset (its imports, configuration, vocabularies, encoding, HDF5 files); they need
h5py, pandas and scikit-learn. A module that they import and do not use (keras_preprocessing) is replaced. For more rows
than ``--rows`` their time is extrapolated: seconds per row between a tenth of ``--rows`` and ``--rows``, plus start-up.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import timing
from prepare import generate

RESULT = Path(__file__).parent / "results" / "prepare_command.json"
RAW = "final_track1_train.txt"
_BUILD = """
import sys
sys.path.insert(0, ".")
from fuxictr import datasets
from datetime import datetime
from fuxictr.utils import load_config, set_logger, print_to_json, print_to_list
from fuxictr.features import FeatureMap
from fuxictr.pytorch.torch_utils import seed_everything
from fuxictr.pytorch.models import MultiTaskModel, BaseModel
from fuxictr.pytorch.dataloaders import H5DataLoader
from fuxictr.preprocess import FeatureProcessor, build_dataset
import models as model_zoo
params = load_config("./config/", "STEM_TiktokLarge")
params["gpu"] = -1
set_logger(params)
seed_everything(seed=params["seed"])
build_dataset(FeatureProcessor(**params), **params)
"""


def run(command: list[str], folder: Path, **environment: str) -> dict[str, float]:
    """Run a command; return its wall-clock seconds, CPU seconds and peak memory."""
    start = time.perf_counter()
    with (folder / "log.txt").open("a", encoding="utf-8") as log:
        actions = [(os.POSIX_SPAWN_DUP2, log.fileno(), 1), (os.POSIX_SPAWN_DUP2, log.fileno(), 2)]
        work = ["/bin/sh", "-c", 'cd "$0" && exec "$@"', str(folder), *command]
        process = os.posix_spawn(work[0], work, {**os.environ, **environment}, file_actions=actions)
    _, status, used = os.wait4(process, 0)
    if status:
        sys.exit(f"error: {' '.join(command)[:80]} failed: {(folder / 'log.txt').read_text(encoding='utf-8')[-800:]}")
    peak = used.ru_maxrss * 1024
    return {
        "seconds": time.perf_counter() - start,
        "cpu_seconds": used.ru_utime + used.ru_stime,
        "peak_bytes": peak,
    }


def ours(raw: Path, folder: Path) -> dict[str, float]:
    """Prepare with stemlab into a new directory."""
    with tempfile.TemporaryDirectory(dir=folder) as data:
        words = ["dataset=tiktok", f"dataset.raw_dir={raw.parent}", f"paths.data_dir={data}"]
        return run([sys.executable, "-m", "stemlab.prepare", *words], folder)


def published(raw: Path, folder: Path, checkout: Path) -> dict[str, float]:
    """Prepare with the published commands in a copy of the checkout."""
    with tempfile.TemporaryDirectory(dir=folder) as copied:
        code = Path(copied) / "STEM"
        shutil.copytree(checkout, code, ignore=shutil.ignore_patterns(".git"))
        data = code / "data" / "TiktokLarge"
        (data / "raw_data").mkdir(exist_ok=True)
        (data / "raw_data" / RAW).symlink_to(raw)
        (code / "keras_preprocessing").mkdir()
        (code / "keras_preprocessing" / "sequence.py").write_text("pad_sequences = None\n", encoding="utf-8")
        parts = [run([sys.executable, "preprocess.py"], data), run([sys.executable, "-c", _BUILD], code)]
    total = {key: parts[0][key] + parts[1][key] for key in ("seconds", "cpu_seconds")}
    return {**total, "peak_bytes": max(part["peak_bytes"] for part in parts)}


def compare(what: str, clock: str, slower: list[dict[str, float]], faster: list[dict[str, float]]) -> dict[str, Any]:
    """Return a row of the table; a clock is wall-clock time or CPU time, which other programs disturb less."""
    against = "published commands, preprocess.py and run_expid.py"
    ratio = timing.paired_ratio([one[clock] for one in slower], [one[clock] for one in faster])
    return timing.row(f"{what}{', CPU time' if clock == 'cpu_seconds' else ''}", against, ratio)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--published", type=Path, required=True, help="checkout of LiangcaiSu/STEM")
    parser.add_argument("--rows", type=int, default=2_000_000)
    parser.add_argument(
        "--more", type=int, nargs="*", default=[8_000_000, 20_000_000], help="rows that stemlab prepares"
    )
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--output", type=Path, default=RESULT)
    arguments = parser.parse_args()
    clocks, rows, larger = ("seconds", "cpu_seconds"), [], []
    with tempfile.TemporaryDirectory(prefix="prepare-command-") as name:
        folder = Path(name)
        raw = folder / "raw" / RAW
        raw.parent.mkdir()
        mine, theirs, tenth = [], [], arguments.rows // 10
        generate(raw, tenth)
        small = published(raw, folder, arguments.published.resolve())
        generate(raw, arguments.rows)
        for _ in range(arguments.rounds):
            mine.append(ours(raw, folder))
            theirs.append(published(raw, folder, arguments.published.resolve()))
            print(mine[-1], theirs[-1], flush=True)
        what = "preparation as a command, {:,} rows"
        rows += [compare(what.format(arguments.rows), clock, theirs, mine) for clock in clocks]
        for count in arguments.more:
            generate(raw, count)
            larger.append({"rows": count, **ours(raw, folder)})
            print(larger[-1], flush=True)
            times = (count - tenth) / (arguments.rows - tenth)
            scaled = [{clock: small[clock] + times * (one[clock] - small[clock]) for clock in clocks} for one in theirs]
            text = f"{what.format(count)} (published: extrapolated)"
            rows += [compare(text, clock, scaled, [larger[-1]] * len(scaled)) for clock in clocks]
    result = {
        **timing.machine(len(os.sched_getaffinity(0))),
        "compared": {"rows": arguments.rows, "stemlab": mine, "published": theirs, "published_tenth": small},
        "stemlab": larger,
        "rows": rows,
    }
    arguments.output.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()

"""What analyses of large runs take: the commands themselves, a table of 5 million rows x 48 and 20 million test pairs.

    python scripts/bench/analysis.py [--rows 5000000] [--items 1000000] [--width 48] [--pairs 20000000] [--threads 2]
    python scripts/bench/analysis.py --rows 20000 --items 5000 --pairs 50000 --output small.json

First a dataset and four runs are written (``analysis_runs.py``): single-task models of two tasks, a second seed of one,
a joint model. Then ``stemlab.analyze analysis=collapse`` reads the joint one, ``analysis=entanglement`` all of them,
each in a process of its own, from its start to its end: imports, checkpoints with their hashes, numbers, figures, page.
Memory is the largest resident size (the mapped pages of files count), processor seconds are those of all threads. The
terminal is a pseudo one, so that bars are drawn and counted. The files, 14 GB at full size, lie under TMPDIR and are
deleted; as they were just written, many are still in the system's cache. Writes ``results/analysis.json``
(``--output`` for another).
"""

from __future__ import annotations

import argparse
import json
import os
import pty
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from analysis_runs import RUNS, add_sizes, check_sizes

from stemlab.reporting.record import hardware

RESULT = Path(__file__).parent / "results" / "analysis.json"
BAR = "━"
UNIT = 1 if sys.platform == "darwin" else 1024  # of ru_maxrss


def run(words: list[str], threads: int) -> dict[str, Any]:
    """Run a command at a terminal; return seconds, memory and whether it drew a bar."""
    master, terminal = pty.openpty()
    variables = {**os.environ, "OMP_NUM_THREADS": str(threads), "TERM": "xterm", "COLUMNS": "120"}
    start = time.perf_counter()
    process = subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=terminal, stderr=terminal, env=variables)
    os.close(terminal)
    shown = b""
    with suppress(OSError):  # the other end is closed
        while part := os.read(master, 1 << 16):
            shown += part
    _, status, usage = os.wait4(process.pid, 0)  # of this process and those it waited for, no others
    seconds = time.perf_counter() - start
    os.close(master)
    text = shown.decode(errors="replace")
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        sys.exit(f"error: {' '.join(words)}\n{text}")
    return {
        "wall_seconds": seconds,
        "processor_seconds": usage.ru_utime + usage.ru_stime,
        "peak_bytes": usage.ru_maxrss * UNIT,
        "progress_bar": BAR in text,
    }


def measure(folder: Path, chosen: argparse.Namespace) -> dict[str, Any]:
    """Return what both analyses take, and what they say they read."""
    analyses = {
        "collapse": [f"run={folder / 'joint'}"],
        "entanglement": [f"runs=[{','.join(str(folder / name) for name in RUNS)}]", "analysis.activity=0"],
    }
    told: dict[str, Any] = {}
    for name, words in analyses.items():
        output = folder / "found" / name
        command = [sys.executable, "-m", "stemlab.analyze", f"analysis={name}", *words, f"output={output}"]
        told[name] = run(command, chosen.threads)
        found = json.loads((output / "results.json").read_text(encoding="utf-8"))["sections"][name]
        print(name, json.dumps(told[name]), found["verdict"], sep="\n", flush=True)
    if found["numbers"]["pairs"] != chosen.pairs:
        sys.exit(f"error: {found['numbers']['pairs']:,} of {chosen.pairs:,} pairs were analysed.")
    return {**told, "checkpoint_bytes": (folder / "joint" / "checkpoints" / "best.ckpt").stat().st_size}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_sizes(parser)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--output", type=Path, default=RESULT)
    chosen = parser.parse_args()
    check_sizes(chosen)
    sizes = {key: getattr(chosen, key) for key in ("rows", "items", "width", "pairs")}
    with tempfile.TemporaryDirectory(prefix="analysis-bench-") as name:
        make = [f"--{key}={value}" for key, value in sizes.items()]
        subprocess.run([sys.executable, str(Path(__file__).with_name("analysis_runs.py")), name, *make], check=True)
        load = os.getloadavg()[0]
        found = measure(Path(name).absolute(), chosen)
    result = {
        "what": "stemlab.analyze from start to end: a joint run (collapse), it and three single-task runs",
        **sizes,
        "threads": chosen.threads,
        **found,
        "load_average": load,
        "hardware": hardware(1),
    }
    chosen.output.parent.mkdir(parents=True, exist_ok=True)
    chosen.output.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()

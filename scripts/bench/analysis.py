"""Cost of the analyses of large runs: complete commands on a 5 million x 48 embedding table and 20 million test pairs.

    python scripts/bench/analysis.py [--rows 5000000] [--items 1000000] [--width 48] [--pairs 20000000] [--threads 2]
    python scripts/bench/analysis.py --rows 20000 --items 5000 --pairs 50000 --output small.json

First ``analysis_runs.py`` writes a dataset and four runs: single-task models of two tasks, a second seed of one of
them, and a joint model. Then ``analysis=collapse`` analyses the joint run and ``analysis=entanglement`` all runs. Each
command runs in its own process and is measured from start to end: imports, checkpoints and their hashes, numbers,
figures, page. Memory is the peak resident set size, including mapped file pages; CPU time is that of all threads. The
command writes to a pseudo-terminal, so that progress bars are drawn and included. The files, 14 GB at full size, are
written under TMPDIR and deleted; because they were just written, many of them are in the page cache. The result is
written to ``results/analysis.json`` (or ``--output``).
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
    """Run a command in a pseudo-terminal; return wall and CPU time, peak memory and whether it drew a progress bar."""
    master, terminal = pty.openpty()
    variables = {**os.environ, "OMP_NUM_THREADS": str(threads), "TERM": "xterm", "COLUMNS": "120"}
    start = time.perf_counter()
    process = subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=terminal, stderr=terminal, env=variables)
    os.close(terminal)
    output = b""
    with suppress(OSError):  # raised when the process closes the terminal
        while part := os.read(master, 1 << 16):
            output += part
    _, status, usage = os.wait4(process.pid, 0)  # usage of this process and its waited-for children
    seconds = time.perf_counter() - start
    os.close(master)
    text = output.decode(errors="replace")
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        sys.exit(f"error: {' '.join(words)}\n{text}")
    return {
        "wall_seconds": seconds,
        "cpu_seconds": usage.ru_utime + usage.ru_stime,
        "peak_bytes": usage.ru_maxrss * UNIT,
        "progress_bar": BAR in text,
    }


def measure(folder: Path, chosen: argparse.Namespace) -> dict[str, Any]:
    """Return the costs of both analyses; check the number of analysed pairs."""
    analyses = {
        "collapse": [f"run={folder / 'joint'}"],
        "entanglement": [f"runs=[{','.join(str(folder / name) for name in RUNS)}]", "analysis.activity=0"],
    }
    costs: dict[str, Any] = {}
    for name, words in analyses.items():
        output = folder / "found" / name
        command = [sys.executable, "-m", "stemlab.analyze", f"analysis={name}", *words, f"output={output}"]
        costs[name] = run(command, chosen.threads)
        found = json.loads((output / "results.json").read_text(encoding="utf-8"))["sections"][name]
        print(name, json.dumps(costs[name]), found["verdict"], sep="\n", flush=True)
    if found["numbers"]["pairs"] != chosen.pairs:
        sys.exit(f"error: {found['numbers']['pairs']:,} of {chosen.pairs:,} pairs were analysed.")
    return {**costs, "checkpoint_bytes": (folder / "joint" / "checkpoints" / "best.ckpt").stat().st_size}


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

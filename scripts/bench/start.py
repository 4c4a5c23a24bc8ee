"""Time from the command to the end of its first training step, and where it goes.

    python scripts/bench/start.py [--repeats 7] [--model shared_bottom] [--output FILE]

Each repeat is a process of its own with two threads, on the prepared SAMPLE of TikTok; files are in the page cache.
``--imports`` prints the slowest imports of one start instead. Writes ``results/start.json``: median seconds of each
phase, wall and CPU time of all threads.
"""

from __future__ import annotations

import argparse
import json
import os
import runpy
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from itertools import pairwise
from pathlib import Path
from types import ModuleType
from typing import Any

TARGET_S = 4.0
"""Target of the time to the first training step on two cores."""
PHASES = {
    "Python, Hydra, composition of the config": "validation",
    "import of torch": "torch",
    "import of Lightning, validation of the config": "validated",
    "second composition by Hydra, own modules": "run",
    "data, network, trainer": "step",
    "first training step": "stepped",
}
"""Phase -> the moment at which it ends."""


class Moments(MetaPathFinder):
    """Notes moments: (wall seconds since the process started, CPU seconds); patches modules after their import."""

    def __init__(self) -> None:
        ticks = int(Path("/proc/self/stat").read_text().rpartition(")")[2].split()[19])
        uptime = float(Path("/proc/uptime").read_text().split()[0])
        self._zero = time.monotonic() - (uptime - ticks / os.sysconf("SC_CLK_TCK"))
        self.seen: dict[str, tuple[float, float]] = {}

    def note(self, name: str) -> None:
        """Note a moment when it comes first."""
        self.seen.setdefault(name, (time.monotonic() - self._zero, time.process_time()))

    def find_spec(self, fullname: str, path: Any, target: ModuleType | None = None) -> ModuleSpec | None:
        """Let a module note moments."""
        if fullname not in _PATCHED:
            return None
        spec = PathFinder.find_spec(fullname, path, target)
        assert spec is not None
        assert spec.loader is not None
        execute = spec.loader.exec_module

        def exec_module(module: ModuleType) -> None:
            execute(module)
            _PATCHED[fullname](self, module)

        spec.loader.exec_module = exec_module  # type: ignore[method-assign]
        return spec

    def around(self, owner: Any, name: str, before: str | None, after: str | None) -> None:
        """Note moments before and after the first call of a function."""
        plain = getattr(owner, name)

        def call(*arguments: Any, **keywords: Any) -> Any:
            if before:
                self.note(before)
            result = plain(*arguments, **keywords)
            if after:
                self.note(after)
            return result

        setattr(owner, name, call)


def _steps(moments: Moments, module: ModuleType) -> None:
    """Note the first step, and end the process after it: with the first hook that follows a step."""

    def end(*_: Any) -> None:
        moments.note("stepped")
        print(json.dumps(moments.seen), flush=True)
        os._exit(0)

    module.EpochLines.on_train_batch_end = end  # type: ignore[attr-defined]


_PATCHED: dict[str, Callable[[Moments, ModuleType], None]] = {
    "stemlab.config.validate": lambda moments, module: moments.around(module, "validate", "validation", "validated"),
    "torch": lambda moments, module: moments.note("torch"),
    "stemlab.runs.run": lambda moments, module: moments.around(module.TrainingRun, "run", "run", None),
    "stemlab.lightning.module": lambda moments, module: moments.around(module.NetModule, "training_step", "step", None),
    "stemlab.callbacks.progress": _steps,
}


def child(words: list[str]) -> None:
    """Run the command in this process; print the moments."""
    sys.meta_path.insert(0, Moments())
    sys.argv = ["train", *words]
    runpy.run_module("stemlab.train", run_name="__main__", alter_sys=True)


def start(model: str, folder: Path, *options: str) -> subprocess.CompletedProcess[str]:
    """Start the command once."""
    words = [f"model={model}", "dataset=tiktok", "logger=csv", "trainer.threads=2", f"paths.data_dir={folder / 'data'}"]
    command = [sys.executable, *options, __file__, "--child", *words, f"hydra.run.dir={tempfile.mkdtemp(dir=folder)}"]
    return subprocess.run(command, capture_output=True, text=True, check=True)


def phases(output: str) -> dict[str, tuple[float, float]]:
    """Return the (wall, CPU) seconds of each phase of a start."""
    seen = json.loads(output.splitlines()[-1])
    ends = [(0.0, 0.0), *(tuple(seen[moment]) for moment in PHASES.values())]
    spent = [(b[0] - a[0], b[1] - a[1]) for a, b in pairwise(ends)]
    return {**dict(zip(PHASES, spent, strict=True)), "total": ends[-1]}


def main() -> None:
    from timing import machine, row, spread  # imports torch, which a started command must not have imported

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--model", default="shared_bottom")
    parser.add_argument("--imports", action="store_true")
    parser.add_argument("--output", type=Path, default=Path(__file__).parent / "results" / "start.json")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        start(options.model, folder)  # prepares the data
        if options.imports:
            lines = start(options.model, folder, "-X", "importtime").stderr.splitlines()
            print(
                "\n".join(
                    sorted(lines, key=lambda line: int(line[12:22]) if line[12:22].strip().isdigit() else 0)[-40:]
                )
            )
            return
        found = [phases(start(options.model, folder).stdout) for _ in range(options.repeats)]
    seconds = {
        phase: {
            clock: round(statistics.median(run[phase][index] for run in found), 3)
            for index, clock in enumerate(("wall", "cpu"))
        }
        for phase in found[0]
    }
    totals = [round(run["total"][0], 3) for run in found]
    what = f"from the command to the end of the first training step, {options.model}"
    result = {
        **machine(2),
        "model": options.model,
        "repeats": options.repeats,
        "seconds": seconds,
        "total_wall_all": totals,
        "rows": [row(what, f"{TARGET_S:g} s", spread([total / TARGET_S for total in totals]), "%")],
    }
    options.output.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    if sys.argv[1:2] == ["--child"]:
        child(sys.argv[2:])
    else:
        main()

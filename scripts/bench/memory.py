"""Memory that one training step allocates: activations, gradients and temporary tensors; stemlab and plain twins.

    python scripts/bench/memory.py

The steps are those of ``step.py``, ``sequence_step.py`` and ``mmfi_step.py``. One step is recorded by the profiler of
PyTorch, and its largest sum of allocated bytes is counted: it does not depend on the machine or on other load. Weights
and the state of the optimiser exist before the step and are not included. Writes ``results/memory.json``.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import mmfi_step
import sequence_step
import step
import torch
from timing import machine, row, spread
from torch.profiler import ProfilerActivity, profile, record_function

from stemlab.profiling.step_probe import STEP
from stemlab.profiling.trace import allocated_bytes, read_trace

Act = Callable[[], object]


def step_bytes(act: Act) -> int:
    """Return the largest number of bytes that one call allocates; two calls before it create the optimiser's state."""
    for _ in range(2):
        act()
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as traced, record_function(STEP):
        act()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "trace.json.gz"
        traced.export_chrome_trace(str(path))
        return allocated_bytes(read_trace(path))


def pairs() -> Iterator[tuple[str, Act, Act]]:
    """Yield what a step is, its function in stemlab and that of the twin."""
    acts = step.make_steps(step.TABLES["sample"])
    for kind in ("float32", "bf16"):
        yield f"STEM step, {kind}, batch {step.BATCH}", acts[f"stemlab {kind}"], acts[f"twin {kind}"]
    for stage in sequence_step.STAGES:
        ours, theirs = (sequence_step.make_step(stage, mine) for mine in (True, False))
        yield f"TiMiRec step, {stage}, batch {sequence_step.BATCH}", ours, theirs
    ours, theirs = (mmfi_step.acts(variant)["training"] for variant in ("stemlab", "twin"))
    yield f"MMFI step, batch {mmfi_step.BATCH}", ours, theirs


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--output", type=Path, default=Path(__file__).parent / "results" / "memory.json")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    rows: list[dict[str, Any]] = []
    for what, ours, theirs in pairs():
        used, twin = step_bytes(ours), step_bytes(theirs)
        baseline = f"plain twin ({twin / 1e6:,.0f} MB)"
        rows.append(row(f"memory of a {what}", baseline, spread([used / twin])) | {"memory_bytes": used})
        print(json.dumps(rows[-1]), flush=True)
    result = machine(options.threads) | {"rows": rows}
    options.output.parent.mkdir(parents=True, exist_ok=True)
    options.output.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()

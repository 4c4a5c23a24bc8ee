"""Table of docs/benchmarks.md and ``results/table.json``, from the files in ``results/``.

python scripts/bench/table.py             # write both
python scripts/bench/table.py --check     # fail if one of them differs from the results
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping
from dataclasses import asdict, replace
from pathlib import Path

import result_rows
from result_rows import BenchRow, Result, Rows, machine_name

from stemlab.errors import StemlabError
from stemlab.reporting.document import check_block, update_block

ROOT = Path(__file__).resolve().parents[2]
RESULTS = ROOT / "scripts" / "bench" / "results"
TOGETHER = RESULTS / "table.json"

BENCHMARKS: Mapping[tuple[str, ...], Callable[..., Rows]] = {
    ("loader",): result_rows.loader,
    ("gauc",): result_rows.gauc,
    ("prepare",): result_rows.prepare,
    ("prepare_aliexpress",): result_rows.prepare_aliexpress,
    ("sequence_loader",): result_rows.sequence_loader,
    ("kernels",): result_rows.kernels,
    ("diagnostics",): result_rows.diagnostics,
    ("analysis",): result_rows.analysis,
    ("gpu",): result_rows.gpu,
}
"""Result files (without ``.json``) -> function of the rows; benchmarks without results have no rows.

Files in the common form (``rows`` of ``timing.row``) are read without an entry, after these.
"""


def rows() -> list[BenchRow]:
    """Return the rows of all result files."""
    files = {path.stem: json.loads(path.read_text(encoding="utf-8")) for path in sorted(RESULTS.glob("*.json"))}
    files.pop(TOGETHER.stem, None)
    common = {name for name, found in files.items() if is_common(found)}
    made: list[BenchRow] = []
    for names, function in BENCHMARKS.items():
        for name in sorted(common.intersection(names)):
            made += complete(result_rows.listed(files[name]), files[name])
        common -= set(names)
        found = [files[name] for name in names if name in files and not is_common(files[name])]
        if len(found) == len(names):
            made += complete(function(*found), found[0])
    for name in sorted(common):
        made += complete(result_rows.listed(files[name]), files[name])
    return made


def is_common(found: Result) -> bool:
    """Return whether a result file has rows of ``timing.row``."""
    listed = found.get("rows")
    return isinstance(listed, list) and bool(listed) and "ratio" in listed[0]


def complete(found: Rows, file: Result) -> list[BenchRow]:
    """Return rows with the machine of their file."""
    whole = [row if isinstance(row, BenchRow) else BenchRow(*row) for row in found]
    return [row if row.machine else replace(row, machine=machine_name(file)) for row in whole]


def table(found: list[BenchRow]) -> str:
    """Return the table as Markdown."""
    lines = [
        "| work | against | result (median) | spread | of the peak | memory per step | machine |",
        "|---|---|---|---|---|---|---|",
    ]
    return "\n".join([*lines, *(f"| {' | '.join(asdict(row).values())} |" for row in found)])


IN_SHORT = (
    *(f"{name} step, 23,366 embedding rows, float32" for name in ("STEM", "MMoE", "PLE")),
    "MMFI training, batch 2048, 4 scenarios, 2 tasks",
    *(f"TiMiRec, {stage}: step of stemlab, CPU time" for stage in ("pretrain", "finetune")),
    "STEM evaluation of 32,768 samples with gAUC",
    "MMFI evaluation, batch 2048, 4 scenarios, 2 tasks",
    *(f"TiMiRec evaluation, {stage}, 6,040 users, 1,001 candidates" for stage in ("pretrain", "finetune")),
    *(f"prepare, {rows}, whole commands" for rows in ("2,000,000 rows", "20,000,000 rows")),
    *("STEM, batch 4096, bf16, eager", "STEM, batch 4096, bf16", "STEM, batch 65536, bf16"),
)
"""Work of the rows at the head of the page."""


def in_short(found: list[BenchRow]) -> str:
    """Return the rows of ``IN_SHORT`` against the published code, and those of the GPU, as Markdown."""
    rows = [row for work in IN_SHORT for row in found if row.work == work]
    rows = [row for row in rows if row.against.startswith(("published", "target", "none"))]
    lines = [f"| {row.work} | {_baseline(row.against)} | {row.measured} | {row.machine} |" for row in rows]
    return "\n".join(["| work | against | result (median) | machine |", "|---|---|---|---|", *lines])


def _baseline(against: str) -> str:
    return against if against.startswith("published") else ""


def together(found: list[BenchRow]) -> str:
    """Return all rows as one JSON text."""
    return json.dumps({"rows": [asdict(row) for row in found]}, indent=1, ensure_ascii=False) + "\n"


def gpu_networks() -> str:
    """Return the table of captured steps of every network on one GPU as Markdown."""
    found = json.loads((RESULTS / "gpu_kernels.json").read_text(encoding="utf-8"))
    lines = [
        "| network | batch | eager, ms | captured, ms | captured, trainer.kernels=off, ms |",
        "|---|---|---|---|---|",
    ]
    for name, row in found.items():
        for kind in ("float32", "bf16"):
            if isinstance(row, dict) and f"captured {kind}" in row:
                times = [row.get(f"{way} {kind}{rest}") for way, rest in _WAYS]
                cells = ["" if time is None else f"{time:.2f}" for time in times]
                lines.append(f"| {name}, {kind} | {row['batch']:,} | {' | '.join(cells)} |")
    return "\n".join(lines)


_WAYS = (("eager", ""), ("captured", ""), ("captured", ", kernels off"))


def main() -> None:
    check, found = "--check" in sys.argv[1:], rows()
    act = check_block if check else update_block
    act(ROOT / "docs" / "benchmarks.md", "in_short", in_short(found))
    act(ROOT / "docs" / "benchmarks.md", "speed", table(found))
    act(ROOT / "docs" / "benchmarks.md", "gpu_networks", gpu_networks())
    if not check:
        TOGETHER.write_text(together(found), encoding="utf-8")
    elif not TOGETHER.is_file() or TOGETHER.read_text(encoding="utf-8") != together(found):
        raise StemlabError(f"{TOGETHER} differs from the results: run python scripts/bench/table.py.")


if __name__ == "__main__":
    try:
        main()
    except StemlabError as error:
        sys.exit(f"error: {error}")

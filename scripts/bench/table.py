"""Table of scripts/bench/README.md from the files in ``results/``: ``python scripts/bench/table.py [--check]``.

The rows of each benchmark come from one function; ``BENCHMARKS`` maps its result files to the function.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from stemlab.errors import StemlabError
from stemlab.reporting.document import check_block, update_block

ROOT = Path(__file__).resolve().parents[2]
RESULTS = ROOT / "scripts" / "bench" / "results"
Result = dict[str, Any]
Rows = list[tuple[str, str, str]]
"""Rows of the table: what was measured, the baseline, and the result."""


def loader(found: Result) -> Rows:
    ways = {"one matrix": "ratio_to_per_sample_matrix", "columns": "ratio_to_per_sample_columns"}
    return [
        ("training batches", f"per-sample dataset ({way}) and default collate", f"{found[key]} x")
        for way, key in ways.items()
    ]


def gauc(found: Result) -> Rows:
    what = f"gAUC, {found['rows']:,} rows, {found['groups']:,} groups"
    return [(what, "one scikit-learn call per group", f"{found['ratio']} x")]


def step(small: Result, large: Result) -> Rows:
    baseline = "list of expert MLPs, stacked copies, dense Adam, penalty in the graph; float32"
    peak = {"float32": "oneDNN 4096x512x512", "bf16": "torch.mm 4096x512x512"}
    rows = []
    for tables in (small, large):
        against = f"{baseline} ({tables['rows']:,} embedding rows)"
        for kind in peak:
            faster = tables["times_faster_than_twin_float32"][kind]
            rows.append((f"STEM step, {kind}", against, f"{faster:.2f} x"))
    for kind, product in peak.items():
        share = small["fraction_of_peak"][kind][product]
        rows.append((f"STEM step, {kind}, products per second", f"peak of the machine ({product})", f"{share:.0%}"))
    return rows


def prepare(found: Result) -> Rows:
    ways = found["times_faster_than"].items()
    rows = [("prepare, rows/s", f"pandas read_csv, then {way} per row", f"{ratio:.1f} x") for way, ratio in ways]
    return [*rows, _growth("prepare", found)]


def prepare_aliexpress(found: Result) -> Rows:
    return [_growth("prepare, AliExpress NL", found)]


def _growth(what: str, found: Result) -> tuple[str, str, str]:
    """Return peak memory at the largest size compared with the smallest size."""
    small, big = found["ours"][0], found["ours"][-1]
    against = f"{small['rows']:,} rows ({small['peak_bytes'] / 1e6:.0f} MB)"
    return f"{what}, peak memory, {big['rows']:,} rows", against, f"{big['peak_bytes'] / small['peak_bytes']:.2f} x"


def sequence_loader(found: Result) -> Rows:
    what = f"sequence batches, {found['negatives']} negative, history {found['history_max']}"
    return [(what, "per-sample dataset and collate", f"{found['ratio_to_per_sample_twin']} x")]


def sequence_step(found: Result) -> Rows:
    baseline = "one lookup per item occurrence, packed GRU, masks with infinities"
    ways = {
        "default allocator settings": "times_faster_than_twin",
        "allocator settings of the trainer": "times_faster_with_same_memory",
    }
    where = f", {found['cpu']}" if "cpu" in found else ""
    return [
        (
            f"TiMiRec step, {stage}, batch {found['batch']}, {found['threads']} threads{where}",
            f"{baseline}; {memory}",
            f"{found[stage][key]:.2f} x",
        )
        for stage in ("pretrain", "finetune")
        for memory, key in ways.items()
    ]


def kernels(found: Result) -> Rows:
    """Return the CPU time of a step that ``trainer.kernels=auto`` saves."""
    return [
        (f"TiMiRec step, {stage}, {threads} thread(s), CPU time saved by kernels", "plain equations", f"{saving:.0%}")
        for threads, stages in found["threads"].items()
        for stage, clocks in stages.items()
        for saving in [clocks["cpu"]["saving"]]
    ]


def ranking_evaluation(found: Result) -> Rows:
    return [
        (
            f"ranking of {found['users']:,} users, {found['candidates']:,} candidates, {interests} interest(s), "
            f"{found['threads']} thread(s)",
            "candidate vectors gathered row by row, argsort",
            f"{measured['times_faster']:.1f} x",
        )
        for interests, measured in found["interests"].items()
    ]


def mmfi_step(found: Result) -> Rows:
    """Return MMFI's step and scoring in CPU time, which depends less on other load than wall time."""
    what = f"batch {found['batch']}, {found['scenarios']} scenarios, {found['tasks']} tasks, {found['threads']} thread"
    baseline = "every sample through every scenario, loops over scenarios, tasks and experts"
    rows = []
    for act in ("training", "evaluation"):
        less, share = found[act]["times_less_cpu_time"], found[act]["share_of_twin"]
        published = f"MMFI {act} with net.published=true, samples per CPU second"
        rows.append((f"MMFI {act}, samples per CPU second, {what}", baseline, f"{less['stemlab']:.1f} x"))
        rows.append((published, baseline, f"{less['stemlab published']:.1f} x"))
        saved = f"{found[act]['saved_by_kernels']:.0%} less"
        rows.append((f"MMFI {act}, CPU time with trainer.kernels=auto", "trainer.kernels=off", saved))
        rows.append((f"MMFI {act}, peak memory", baseline, f"{share['stemlab']:.2f} x"))
    return rows


def diagnostics(found: Result) -> Rows:
    """Return the cost of the live diagnostics in CPU time."""
    against = f"the {found['steps_per_epoch']} steps of STEM in one epoch of the SAMPLE"
    return [("live diagnostics, once per epoch", against, f"{found['share_of_epoch_cpu']:.1%}")]


def analysis(found: Result) -> Rows:
    """Return the costs of the complete commands, with their limits at the default size."""
    table = f"table of {found['rows']:,} rows x {found['width']}"
    sizes = {"collapse": table, "entanglement": f"{table}, {found['pairs']:,} pairs"}
    return [
        (f"analysis={name}, {size}, {what}", f"limit {limit}", measured)
        for name, size in sizes.items()
        for what, limit, measured in (
            (f"{found['threads']} threads", "120 s", f"{found[name]['wall_seconds']:.0f} s"),
            ("CPU time", "240 s (two cores)", f"{found[name]['cpu_seconds']:.0f} s"),
            ("peak memory", "6 GB", f"{found[name]['peak_bytes'] / 1e9:.2f} GB"),
        )
    ]


def gpu(found: Result) -> Rows:
    """Return trainings and evaluations through the commands on one GPU, with their targets."""
    units = {"samples/s": lambda value: f"{value / 1e6:.2f} M samples/s", "s": lambda value: f"{value:.2f} s"}
    return [
        (
            f"{row['what']}, {found['device']}",
            f"target {units[row['unit']](row['target'])}" if row["target"] else "none",
            units[row["unit"]](row["value"]) if row["unit"] else f"{row['value']:.1g}",
        )
        for row in found["rows"]
    ]


BENCHMARKS: Mapping[tuple[str, ...], Callable[..., Rows]] = {
    ("loader",): loader,
    ("gauc",): gauc,
    ("step", "step_large"): step,
    ("prepare",): prepare,
    ("prepare_aliexpress",): prepare_aliexpress,
    ("sequence_loader",): sequence_loader,
    ("sequence_step",): sequence_step,
    ("sequence_step_xeon",): sequence_step,
    ("kernels",): kernels,
    ("ranking_evaluation",): ranking_evaluation,
    ("mmfi_step",): mmfi_step,
    ("diagnostics",): diagnostics,
    ("analysis",): analysis,
    ("gpu",): gpu,
}
"""Result files (without ``.json``) -> function of the rows; benchmarks without results have no rows."""


def table() -> str:
    """Return the table as Markdown."""
    lines = ["| what | baseline | measured |", "|---|---|---|"]
    for names, rows in BENCHMARKS.items():
        files = [RESULTS / f"{name}.json" for name in names]
        if all(file.is_file() for file in files):
            found = rows(*(json.loads(file.read_text(encoding="utf-8")) for file in files))
            lines += [f"| {what} | {against} | {ratio} |" for what, against, ratio in found]
    return "\n".join(lines)


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

if __name__ == "__main__":
    act = check_block if "--check" in sys.argv[1:] else update_block
    try:
        act(ROOT / "scripts" / "bench" / "README.md", "speed", table())
        act(ROOT / "scripts" / "bench" / "README.md", "gpu_networks", gpu_networks())
    except StemlabError as error:
        sys.exit(f"error: {error}")

"""Rows of the table of docs/benchmarks.md: one function per benchmark, from its result files.

A new benchmark needs no function: a result file with ``timing.machine(...)`` and a list ``rows`` of ``timing.row(...)``
is read by ``listed``. Optional keys of such a row: ``peak`` (share of the machine's own peak), ``memory_bytes`` (of a
step), ``cpu`` (if it differs from that of the file).
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

Result = dict[str, Any]


@dataclass(frozen=True, slots=True)
class BenchRow:
    """A row of the table, as texts; empty where nothing was recorded.

    Attributes:
        work: what was measured.
        against: what it is compared with.
        measured: ratio (median of the rounds) or another result.
        spread: quartiles of the ratio over the rounds.
        peak: share of the fastest matrix product of the same machine, in the same run.
        memory: memory of a step.
        machine: CPU or GPU, and threads.
    """

    work: str
    against: str
    measured: str
    spread: str = ""
    peak: str = ""
    memory: str = ""
    machine: str = ""


Rows = Sequence[BenchRow | tuple[str, str, str]]
"""Rows, or their work, baseline and result alone; the table adds the machine of the file."""


def listed(found: Result) -> Rows:
    """Return the rows of a result file in the common form."""
    return [
        _listed_row(row, machine_name(found | ({"cpu": row["cpu"]} if "cpu" in row else {}))) for row in found["rows"]
    ]


def _listed_row(row: Result, machine: str) -> BenchRow:
    """Return a row of ``timing.row``; a share of the peak is in the column of the peak."""
    ratio, unit, peak = row["ratio"], row["unit"], row.get("peak")
    of_peak = row["baseline"].startswith("peak of") and unit == "%"
    return BenchRow(
        row["what"],
        row["baseline"],
        "" if of_peak else amount(ratio["median"], unit),
        between(ratio["low"], ratio["high"], unit),
        amount(ratio["median"], unit) if of_peak else amount(peak, "%") if peak is not None else "",
        megabytes(row["memory_bytes"]) if "memory_bytes" in row else "",
        machine,
    )


def amount(value: float, unit: str) -> str:
    """Return a number with its unit: ``2.36 x``, ``70%``."""
    if unit == "%":
        return f"{value:.0%}"
    return f"{value:.2f} {unit}" if value < 10 else f"{value:.1f} {unit}"


def between(low: float, high: float, unit: str) -> str:
    """Return a spread as text; empty without one."""
    return "" if low == high else f"{amount(low, unit)} to {amount(high, unit)}"


def megabytes(count: float) -> str:
    return f"{count / 1e6:,.0f} MB" if count >= 1e6 else f"{count / 1e6:.2f} MB"


def machine_name(found: Result) -> str:
    """Return CPU or GPU and threads of a result file; empty if the file has neither."""
    inner = found.get("machine", {})
    name = found.get("device") or found.get("cpu") or inner.get("cpu") or found.get("hardware", {}).get("cpu")
    threads = found.get("threads", inner.get("threads"))
    if not name:
        return ""
    return f"{name}, {threads} thread{'s' * (threads > 1)}" if isinstance(threads, int) else str(name)


def paired(work: str, against: str, slower: Sequence[float], faster: Sequence[float]) -> BenchRow:
    """Return a row with median and quartiles of the ratios of each round."""
    ratios = [a / b for a, b in zip(slower, faster, strict=True)]
    low, median, high = statistics.quantiles(ratios, n=4, method="inclusive")
    return BenchRow(work, against, amount(median, "x"), between(low, high, "x"))


def loader(found: Result) -> Rows:
    ways = {"one matrix": "matrix", "columns": "columns"}
    rates = found["rows_per_s_all"]
    return [
        paired(
            "training batches",
            f"per-sample dataset ({way}) and default collate",
            rates["stemlab_train"],
            rates[f"per_sample_{key}"],
        )
        for way, key in ways.items()
    ]


def gauc(found: Result) -> Rows:
    what = f"gAUC, {found['rows']:,} rows, {found['groups']:,} groups"
    seconds = found["scikit_learn_loop_s_all"], found["stemlab_s_all"]
    return [paired(what, "one scikit-learn call per group", *seconds)]


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
    times = found["ms_per_batch_all"]
    return [paired(what, "per-sample dataset and collate", times["per_sample_twin"], times["stemlab"])]


def kernels(found: Result) -> Rows:
    """Return the CPU time of a step that ``trainer.kernels=auto`` saves."""
    return [
        (f"TiMiRec step, {stage}, {threads} thread(s), CPU time saved by kernels", "plain equations", f"{saving:.0%}")
        for threads, stages in found["threads"].items()
        for stage, clocks in stages.items()
        for saving in [clocks["cpu"]["saving"]]
    ]


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
            row["what"],
            f"target {units[row['unit']](row['target'])}" if row["target"] else "none",
            units[row["unit"]](row["value"]) if row["unit"] else f"{row['value']:.1g}",
        )
        for row in found["rows"]
    ]

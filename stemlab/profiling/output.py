"""What a profile shows: tables in the terminal, ``profile.json`` and a picture."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import rich
from rich.markup import escape
from rich.table import Table

from stemlab.data.io.output_file import complete_file, write_errors
from stemlab.profiling.step_clock import PARTS
from stemlab.reporting.record import write_json
from stemlab.runs.footprint import format_bytes
from stemlab.runs.summary import print_unwrapped

PROFILE, PICTURE = "profile.json", "profile.png"
_SHOWN = 10
_BAR_COLOURS = ("#56B4E9", "#999999", "#0072B2", "#D55E00", "#E69F00", "#CC79A7", "#009E73", "#F0E442", "#444444")
"""Colour of each of ``PARTS``, safe for colour-blind readers."""


def write_profile(folder: Path, found: Mapping[str, Any]) -> None:
    """Write ``profile.json`` and ``profile.png``."""
    write_json(folder / PROFILE, found)
    draw_profile(folder / PICTURE, found)


def title(found: Mapping[str, Any]) -> str:
    """Return the title of a profile: model, stage, dataset, batch size, precision."""
    stage = f", stage {found['stage']}" if found["stage"] else ""
    mark = " (SAMPLE: synthetic data)" if found["sample"] else ""
    return (
        f"{found['model']}{stage} on {found['dataset']}{mark}, batch {found['batch_size']:,}, {found['precision']}, "
        f"{machine(found['hardware'], found['engine'])}"
    )


def machine(hardware: Mapping[str, Any], engine: Mapping[str, Any]) -> str:
    """Return the CPU or GPU on which the steps ran."""
    if engine["captured"] or engine["residence"]:
        return str(hardware["gpus"][0])
    return f"{hardware['cpu']}, {hardware['threads']} thread{'s' * (hardware['threads'] > 1)}"


def print_profile(found: Mapping[str, Any], folder: Path) -> None:
    """Print the parts of a step, the longest operators or kernels, utilisation and memory."""
    console, step = rich.get_console(), found["step"]
    console.print(f"one training step: {title(found)}", highlight=False, markup=False)
    parts = Table()
    for name in ("part", "ms", "share"):
        parts.add_column(name, justify="left" if name == "part" else "right")
    for name, part in found["parts"].items():
        parts.add_row(name, milliseconds(part["seconds"]), f"{part['share']:.1%}")
    parts.add_row("sum", milliseconds(step["mean_s"]), "100.0%", style="bold")
    console.print(parts)
    kind = "kernels" if found["traced"]["kernels"] else "operators"
    longest = Table(title=f"longest {kind} of a step")
    for name in (kind, "ms", "share", "calls"):
        longest.add_column(name, justify="left" if name == kind else "right", overflow="fold")
    for work in found["traced"][kind][:_SHOWN]:
        calls = f"{work['calls']:.3g}"
        longest.add_row(escape(_short(work["name"], 60)), milliseconds(work["seconds"]), f"{work['share']:.1%}", calls)
    console.print(longest)
    for line in summary_lines(found):
        console.print(line, highlight=False, markup=False)
    print_unwrapped(f"wrote {PROFILE}, {PICTURE} and the trace in {folder}")


def summary_lines(found: Mapping[str, Any]) -> list[str]:
    """Return sentences about speed, utilisation, memory and parameters."""
    step, flops, memory = found["step"], found["flops"], found["memory"]
    peak = flops["peak"]
    lines = [
        f"execution: {found['execution']}",
        f"{step['samples_per_s']:,.0f} samples/s; median step {milliseconds(step['median_s'])} ms, "
        f"{milliseconds(step['fastest_s'])} to {milliseconds(step['slowest_s'])} ms in {step['steps']} steps",
        f"{(flops['forward'] + flops['backward']) / 1e9:.3g} GFLOP per step, {flops['per_s'] / 1e9:,.3g} GFLOP/s: "
        f"{flops['utilisation']:.1%} of the fastest product of this machine ({peak['product']}, "
        f"{peak['flops_per_s'] / 1e9:,.3g} GFLOP/s)",
        f"memory: a step allocates up to {format_bytes(memory['step_peak_bytes'])} beside weights "
        f"{format_bytes(memory['weights_bytes'])} and optimiser {format_bytes(memory['optimiser_bytes'])}; peak of the "
        f"process {format_bytes(memory['peak_rss_bytes'])}",
        "parameters: " + ", ".join(f"{name} {count:,}" for name, count in found["parameters"].items()),
    ]
    if gpu := found["traced"]["gpu"]:
        lines.insert(
            2,
            f"GPU: {gpu['busy_share']:.1%} of the traced time with work; {milliseconds(gpu['idle_s'])} ms per step "
            "without",
        )
    return lines


def milliseconds(seconds: float) -> str:
    """Return a time in milliseconds with three digits."""
    value = 1000 * seconds
    return f"{value:.3f}" if value < 1 else f"{value:.3g}" if value < 1000 else f"{value:,.0f}"


def draw_profile(path: Path, found: Mapping[str, Any]) -> None:
    """Write a picture: a step as a bar of its parts, and the longest operators or kernels."""
    import matplotlib
    from matplotlib.figure import Figure

    kind = "kernels" if found["traced"]["kernels"] else "operators"
    works = found["traced"][kind][:_SHOWN]
    with matplotlib.rc_context({"figure.dpi": 110, "font.size": 9}):
        figure = Figure(figsize=(8.0, 4.4), layout="constrained")
        step, longest = figure.subplots(2, 1, height_ratios=[1, 3])
        _draw_parts(step, found)
        _draw_works(longest, works, kind)
        figure.suptitle(title(found), fontsize=8)
        with complete_file(path) as part, write_errors(path):
            figure.savefig(part, format="png")


def _draw_parts(axes: Any, found: Mapping[str, Any]) -> None:
    left = 0.0
    for name, part in found["parts"].items():
        width = 1000 * part["seconds"]
        label = f"{name} {_percent(part['share'])}"
        axes.barh(0, width, left=left, color=_BAR_COLOURS[PARTS.index(name)], label=label, edgecolor="white")
        left += width
    axes.set(yticks=[], xlim=(0, left), xlabel="one step, ms")
    axes.spines[["top", "left", "right"]].set_visible(False)
    axes.figure.legend(frameon=False, fontsize=7, ncols=5, loc="outside lower center")


def _percent(share: float) -> str:
    return f"{share:.0%}" if share >= 0.005 else "<1%"


def _draw_works(axes: Any, works: Sequence[Mapping[str, Any]], kind: str) -> None:
    names = [_short(work["name"], 44) for work in works]
    places = range(len(works))
    axes.barh(places, [1000 * work["seconds"] for work in works], color="#0072B2")
    axes.set_yticks(places, names, fontsize=7)
    axes.invert_yaxis()
    axes.set_xlabel(f"longest {kind}, ms per step while traced")
    axes.spines[["top", "right"]].set_visible(False)


def _short(text: str, length: int) -> str:
    return text if len(text) <= length else f"{text[: length - 1]}…"

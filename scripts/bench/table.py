"""The table of scripts/bench/README.md, from the results beside it: ``python scripts/bench/table.py [--check]``."""

import json
import sys
from pathlib import Path
from typing import Any

from stemlab.errors import StemlabError
from stemlab.reporting.document import check_block, update_block

ROOT = Path(__file__).resolve().parents[2]


def read(name: str) -> dict[str, Any]:
    return json.loads((ROOT / "scripts" / "bench" / "results" / f"{name}.json").read_text())


def rows() -> list[tuple[str, str, str]]:
    """What was measured, against what, and the ratio."""
    loader, gauc, prepare, step, large = (read(name) for name in ("loader", "gauc", "prepare", "step", "step_large"))
    sequences, ranking, timirec = read("sequence_loader"), read("ranking_evaluation"), read("sequence_step")
    faster, share = "times_faster_than_twin_float32", "fraction_of_peak"
    small, big = prepare["ours"][0], prepare["ours"][-1]
    peak = {"float32": "oneDNN 4096x512x512", "bf16": "torch.mm 4096x512x512"}
    twin = "list of expert MLPs, stacked copies, dense Adam, penalty in the graph; float32"
    return [
        (
            "training batches",
            "per-row dataset (one matrix) and default collate",
            f"{loader['ratio_to_per_row_matrix']} x",
        ),
        (
            "training batches",
            "per-row dataset (columns) and default collate",
            f"{loader['ratio_to_per_row_columns']} x",
        ),
        (
            f"gAUC, {gauc['rows']:,} rows, {gauc['groups']:,} groups",
            "a scikit-learn call a group",
            f"{gauc['ratio']} x",
        ),
        *(
            (f"STEM step, {kind}", f"{twin} ({tables['rows']:,} embedding rows)", f"{tables[faster][kind]:.2f} x")
            for tables in (step, large)
            for kind in ("float32", "bf16")
        ),
        *(
            (f"STEM step, {kind}, products per second", f"this machine's own peak ({peak[kind]})", f"{value:.0%}")
            for kind in ("float32", "bf16")
            for value in (step[share][kind][peak[kind]],)
        ),
        *(
            ("prepare, rows/s", f"pandas read_csv, then {way} a row", f"{ratio:.1f} x")
            for way, ratio in prepare["times_faster_than"].items()
        ),
        (
            f"prepare, peak memory, {big['rows']:,} rows",
            f"{small['rows']:,} rows ({small['peak_bytes'] / 1e6:.0f} MB)",
            f"{big['peak_bytes'] / small['peak_bytes']:.2f} x",
        ),
        (
            f"sequence batches, {sequences['negatives']} negative, history {sequences['history_max']}",
            "per-row dataset and collate",
            f"{sequences['ratio_to_per_row_twin']} x",
        ),
        *(
            (
                f"TiMiRec step, {stage}, batch {timirec['batch']}, {timirec['threads']} threads",
                f"per-row items, packed GRU, masks with infinities; {memory}",
                f"{timirec[stage][key]:.2f} x",
            )
            for stage in ("pretrain", "finetune")
            for memory, key in (
                ("as it is", "times_faster_than_twin"),
                ("with the trainer's memory setting", "times_faster_with_same_memory"),
            )
        ),
        *(
            (
                f"ranks of {ranking['users']:,} users, {ranking['candidates']:,} candidates, {interests} interest(s), "
                f"{ranking['threads']} thread(s)",
                "candidate vectors gathered row by row, argsort",
                f"{measured['times_faster']:.1f} x",
            )
            for interests, measured in ranking["interests"].items()
        ),
    ]


def mmfi_rows() -> list[tuple[str, str, str]]:
    """MMFI's step and scoring; processor time, which busy neighbours disturb less."""
    mmfi = read("mmfi_step")
    what = f"batch {mmfi['batch']}, {mmfi['scenarios']} scenarios, {mmfi['tasks']} tasks, {mmfi['threads']} thread"
    twin = "every row through every scenario, loops over scenarios, tasks and experts"
    found = []
    for act in ("training", "evaluation"):
        less, share = mmfi[act]["times_less_processor_time"], mmfi[act]["share_of_twin"]
        found.append((f"MMFI {act}, rows per processor second, {what}", twin, f"{less['stemlab']:.1f} x"))
        found.append(
            (f"MMFI {act} as published, rows per processor second", twin, f"{less['stemlab published']:.1f} x")
        )
        found.append((f"MMFI {act}, peak memory", twin, f"{share['stemlab']:.2f} x"))
    return found


def watching_rows() -> list[tuple[str, str, str]]:
    """What the live diagnostics take; processor time."""
    live = read("diagnostics")
    against = f"STEM's {live['steps_an_epoch']} steps of an epoch of the sample"
    return [("live diagnostics, once an epoch", against, f"{live['share_of_an_epoch_processor']:.1%}")]


def table() -> str:
    """The table in Markdown."""
    found = [*rows(), *mmfi_rows(), *watching_rows()]
    body = [f"| {what} | {against} | {ratio} |" for what, against, ratio in found]
    return "\n".join(["| what | against | measured |", "|---|---|---|", *body])


if __name__ == "__main__":
    act = check_block if "--check" in sys.argv[1:] else update_block
    try:
        act(ROOT / "scripts" / "bench" / "README.md", "speed", table())
    except StemlabError as error:
        sys.exit(f"error: {error}")

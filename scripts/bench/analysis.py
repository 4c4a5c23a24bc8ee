"""Analyses of large tables: spectra of 5 million rows x 48, conflicts of 20 million pairs; time and peak memory.

    python scripts/bench/analysis.py [--rows 5000000] [--items 1000000] [--width 48] [--pairs 20000000]

Tables and pairs are drawn at random and count as memory, too. Conflicts are those of four distances (two single-task
models, a second seed of one, a joint model) with all numbers and figures. Writes ``results/analysis.json``.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from stemlab.analysis import collapse_view, entanglement_view
from stemlab.analysis.collapse import Collapse
from stemlab.analysis.conflict import Column, column
from stemlab.analysis.pairs import pair_distances
from stemlab.analysis.plots import save
from stemlab.analysis.tables import FieldTable
from stemlab.reporting.record import hardware, peak_memory


def clocks() -> tuple[float, float]:
    return time.perf_counter(), time.process_time()


def since(start: tuple[float, float]) -> dict[str, float]:
    """Return wall time and the processor time of all threads: on a busy machine only the second one says much."""
    return dict(
        zip(("wall_seconds", "processor_seconds"), (b - a for a, b in zip(start, clocks(), strict=True)), strict=True)
    )


def draw_table(rng: np.random.Generator, rows: int, width: int) -> Any:
    """Return a float32 table whose directions decay, filled in place."""
    table = np.empty((rows, width), dtype=np.float32)
    rng.standard_normal(out=table, dtype=np.float32)
    table *= np.geomspace(1, 1e-3, width, dtype=np.float32)
    return table


def collapse(tables: list[FieldTable]) -> dict[str, float]:
    settings = {"fields": [], "row_norm": "l2", "keep_padding_oov": False, "weighting": "none"}
    analysis = Collapse(name="collapse", initial=False, interaction=False, **settings)
    start = clocks()
    draw(collapse_view.findings([analysis.measure("large", tables, {})], [], [], "l2"))
    return since(start)


def conflicts(tables: list[FieldTable], users: Any, items: Any, labels: Any) -> dict[str, float]:
    start = clocks()
    names = (("single a", "a"), ("single b", "b"), ("control a", "a"), ("joint", ""))
    found: list[Column] = []
    for shift, (name, task) in enumerate(names):  # another pairing of rows stands for another model
        user, item = tables[0].weight_VD, np.roll(tables[1].weight_VD, shift, axis=0)
        distance = pair_distances(user, item, users, items, "euclidean", lambda pairs: None)
        found.append(column(name, name, task, distance, (40, 60), 39))
    evidence = entanglement_view.Evidence(
        tasks=("a", "b"),
        singles={"a": found[0], "b": found[1]},
        controls={"a": found[2]},
        joint={"joint": found[3:]},
        columns=tuple(found),
        labels_PT={"a": labels, "b": labels},
    )
    kept = entanglement_view.Kept(len(users), len(users), len(tables[0].weight_VD), len(tables[1].weight_VD), (40, 60))
    draw(entanglement_view.findings(evidence, kept))
    return since(start)


def draw(findings: Any) -> None:
    with tempfile.TemporaryDirectory() as folder:
        for name, drawing in findings.drawings.items():
            save(drawing.figure, Path(folder) / name)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=5_000_000)
    parser.add_argument("--items", type=int, default=1_000_000)
    parser.add_argument("--width", type=int, default=48)
    parser.add_argument("--pairs", type=int, default=20_000_000)
    options = parser.parse_args()
    rng = np.random.default_rng(0)
    sizes = {"uid": options.rows, "item_id": options.items}
    tables = [
        FieldTable(name, "shared", draw_table(rng, rows, options.width), 1, rows - 1) for name, rows in sizes.items()
    ]
    users, items = (rng.integers(1, rows - 1, options.pairs, dtype=np.int32) for rows in sizes.values())
    labels = (rng.random(options.pairs, dtype=np.float32) < 0.3).astype(np.int8)
    told = {
        **vars(options),
        "collapse": collapse(tables),
        "conflicts": conflicts(tables, users, items, labels),
        **peak_memory(),
        "hardware": hardware(1),
    }
    told["peak_gb"] = told["peak_rss_bytes"] / 1e9
    path = Path(__file__).parent / "results" / "analysis.json"
    path.write_text(json.dumps(told, indent=2) + "\n")
    print(json.dumps({key: told[key] for key in ("collapse", "conflicts", "peak_gb")}, indent=2))


if __name__ == "__main__":
    main()

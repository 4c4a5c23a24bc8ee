"""Gradient conflict, gates, comparable samples and entanglement of the runs of docs/negative_transfer.md.

    python scripts/negative_transfer_analyses.py runs/analyses     # folders with results.json of stemlab.analyze

writes the committed numbers (``analyses.csv``). ``scripts/negative_transfer.py`` makes the tables and the figure.
"""

from __future__ import annotations

import argparse
import csv
import json
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from negative_transfer_data import (
    MEAN,
    NO_STOP,
    RARE,
    REPRODUCED,
    SHARED,
    STUDY,
    TASKS,
    Auc,
    Key,
    baseline_of,
    key_of,
    split_of,
)

from stemlab.reporting.collect import collect
from stemlab.reporting.figure_file import FIRST_COLOURS

if TYPE_CHECKING:
    from matplotlib.figure import Figure

NUMBERS = STUDY / "analyses.csv"
FIELDS = ("analysis", "model", "stopping", "split", "name", "part", "value")
CONTROL = "single_task, another seed"
FREQUENT = "is_click"

Numbers = Mapping[tuple[str, str, str], Mapping[Key, Mapping[str, float]]]  # analysis, name, part; model, rule; split


def numbers_of(result: Mapping[str, Any], folder: Path) -> Iterator[tuple[str, str, str, str, float]]:
    """Yield analysis, label of the run, name, part and value of every number that the page uses.

    Args:
        result: content of ``results.json``.
        folder: its folder.
    """
    kind = result["analysis"]
    numbers = result["sections"][kind]["numbers"]
    if kind == "transfer":
        for label, found in numbers["interiors"].items():
            for pair, parts in found["gradient_cosine"].items():
                yield from (("conflict", label, pair, part, value) for part, value in parts.items())
            for task, groups in (found["gates"] or [{}])[0].items():
                yield from (("gate", label, task, part, value) for part, value in gate_summary(task, groups).items())
    elif kind == "comparable":
        for one in numbers["comparisons"]:
            for task, panel in one["panels"].items():
                for label, cells in panel["models"].items():
                    for bucket, cell in cells.items():
                        if "delta_auc" in cell:
                            name = "/".join([task, *one["tasks"]])
                            yield "comparable", label, name, bucket.rstrip("*"), cell["delta_auc"]
    elif kind == "entanglement":
        with (folder / "retention.csv").open(encoding="utf-8", newline="") as file:
            for row in csv.DictReader(file):
                for column, value in row.items():
                    if column.endswith(": retention") and value:
                        yield "entanglement", row["model"], column.partition(":")[0], "retention", float(value)


def gate_summary(task: str, groups: Mapping[str, float]) -> dict[str, float]:
    """Return the shares of own, shared and other experts of a gate; of experts without owner, how many are in use."""
    if "shared" in groups:
        own, shared = groups[f"task:{task}"], groups["shared"]
        return {"own": own, "shared": shared, "other": 1 - own - shared}
    share_E = np.array(list(groups.values()))
    return {"in use": float(np.exp(-(share_E * np.log(share_E)).sum()))}


def read_numbers(path: Path = NUMBERS) -> Numbers:
    """Return the committed numbers."""
    found: dict[tuple[str, str, str], dict[Key, dict[str, float]]] = defaultdict(lambda: defaultdict(dict))
    with path.open(encoding="utf-8") as file:
        for row in csv.DictReader(file):
            place = row["analysis"], row["name"], row["part"]
            found[place][row["model"], row["stopping"]][row["split"]] = float(row["value"])
    return found


def _mean(values: Mapping[str, float], form: str = "+.2f") -> str:
    """Return mean and range over splits."""
    found = list(values.values())
    return f"{np.mean(found):{form}} ({min(found):{form}} to {max(found):{form}})" if found else "-"


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    return "\n".join(
        [f"| {' | '.join(heads)} |", "|---" * len(heads) + "|", *(f"| {' | '.join(row)} |" for row in rows)]
    )


def _keys(numbers: Numbers, analysis: str) -> list[Key]:
    keys = {key for place, by_key in numbers.items() if place[0] == analysis for key in by_key}
    return sorted(keys, key=lambda key: ((*SHARED, CONTROL).index(key[0]), (MEAN, NO_STOP).index(key[1])))


def conflict_table(numbers: Numbers) -> str:
    """Return the cosines of the gradients on the shared tables: mean and range over splits."""
    pairs = [name for analysis, name, part in numbers if (analysis, part) == ("conflict", "tables")]
    rows = [
        [*key, *(_mean(numbers["conflict", pair, "tables"].get(key, {})) for pair in pairs)]
        for key in _keys(numbers, "conflict")
    ]
    return _table(["model", "stopping", *(pair.replace("-", ", ") for pair in pairs)], rows)


def gate_table(numbers: Numbers) -> str:
    """Return the mean gate shares."""
    rows = []
    for key in _keys(numbers, "gate"):
        cells = []
        for task in TASKS:
            parts = {part: numbers["gate", task, part].get(key) for part in ("own", "shared", "other", "in use")}
            means = {part: float(np.mean(list(values.values()))) for part, values in parts.items() if values}
            if "in use" in means:
                cells.append(f"{means['in use']:.1f} of 6 experts")
            else:
                cells.append(", ".join(f"{part} {value:.2f}" for part, value in means.items() if value > 5e-3))
        rows.append([*key, *cells])
    return _table(["model", "stopping", *TASKS], rows)


def comparable_table(numbers: Numbers) -> str:
    """Return the difference of AUC by bucket of relative feedback: mean and standard error over splits."""
    pairs = [(task, "/".join([task, *sorted([task, FREQUENT], key=_task_order(numbers))])) for task in RARE]
    buckets = sorted({part for analysis, _, part in numbers if analysis == "comparable"})
    heads = [f"{task}, {bucket}" for task, _ in pairs for bucket in buckets]
    rows = []
    for key in _keys(numbers, "comparable"):
        cells = []
        for _, name in pairs:
            for bucket in buckets:
                values = np.array(list(numbers["comparable", name, bucket].get(key, {}).values()))
                error = values.std(ddof=1) / np.sqrt(len(values)) if len(values) > 1 else np.nan
                cells.append(f"{values.mean():+.3f} ± {error:.3f}" if len(values) else "-")
        rows.append([*key, *cells])
    return _table(["model", "stopping", *heads], rows)


def _task_order(numbers: Numbers) -> Any:
    """Return a sort key: tasks in the order of the analysis."""
    names = [name.split("/")[1:] for analysis, name, _ in numbers if analysis == "comparable"]
    firsts = [first for first, _ in names]
    return lambda task: firsts.index(task) if task in firsts else len(firsts)


def entanglement_table(numbers: Numbers) -> str:
    """Return the retention of conflicts between the embedding tables of single tasks: mean and range over splits."""
    names = [name for analysis, name, _ in numbers if analysis == "entanglement"]
    rows = [
        [*key, *(_mean(numbers["entanglement", name, "retention"].get(key, {}), ".2f") for name in names)]
        for key in _keys(numbers, "entanglement")
    ]
    return _table(["model", "stopping", *names], rows)


def conflict_points(numbers: Numbers, auc: Auc, key: Key, task: str) -> list[tuple[float, float]]:
    """Return the cosine of the two rare tasks and the difference of AUC from one network per task, per split."""
    cosines = numbers["conflict", "-".join(RARE), "tables"].get(key, {})
    return [
        (cosine, auc[key][split][task] - auc[baseline_of(key)][split][task])
        for split, cosine in cosines.items()
        if split in auc.get(baseline_of(key), {})
    ]


def draw_conflict(numbers: Numbers, auc: Auc, figure: Figure) -> None:
    """Draw the difference of AUC of the rare tasks against the cosine of their gradients, one panel per task."""
    for number, task in enumerate(RARE, start=1):
        axes = figure.add_subplot(1, len(RARE), number)
        for rule, colour in zip((MEAN, NO_STOP), FIRST_COLOURS, strict=False):
            for model, marker in zip(SHARED, "osD^", strict=True):
                points = conflict_points(numbers, auc, (model, rule), task)
                x, y = zip(*points, strict=True)
                axes.scatter(x, y, s=22, marker=marker, color=colour, alpha=0.75, label=f"{model}, stopping: {rule}")
        axes.axhline(0, color="black", lw=0.8)
        axes.axvline(0, color="black", lw=0.8)
        axes.set_xlabel(f"gradient cosine of {' and '.join(RARE)}")
        axes.set_ylabel(f"test AUC of {task} minus single_task")
        axes.grid(alpha=0.3)
    figure.legend(*figure.axes[0].get_legend_handles_labels(), loc="outside upper center", ncols=4, fontsize=8)


def main() -> None:
    """Write the committed numbers."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", nargs="+", type=Path, help="folders that hold results.json, at any depth")
    by_hash = {run.record["config_hash"]: run for run in collect([str(REPRODUCED), str(STUDY)]).runs}
    rows = set()
    for path in sorted(path for folder in parser.parse_args().folders for path in folder.rglob("results.json")):
        result = json.loads(path.read_text(encoding="utf-8"))
        runs = {one["label"]: by_hash.get(one["config_hash"]) for one in result["runs"]}
        joint = next(run for run in runs.values() if run is not None and not run.alone)
        for analysis, label, name, part, value in numbers_of(result, path.parent):
            if label.startswith("control"):
                key = CONTROL, key_of(joint)[1]
            elif (run := runs.get(label)) is not None and not run.alone:
                key = key_of(run)
            else:
                continue
            if value is not None and value == value:
                rows.add((analysis, *key, split_of(joint), name, part, f"{value:.4g}"))
    with NUMBERS.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerows([FIELDS, *sorted(rows)])


if __name__ == "__main__":
    main()

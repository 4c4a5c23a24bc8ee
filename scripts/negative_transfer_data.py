"""Evidence on negative transfer: AUC per model, stopping rule and split, and tests over the users of a split.

    python scripts/negative_transfer_data.py runs/negative_transfer

reads finished runs with saved test scores (``save_scores=true``) and writes what is committed: compact records, and
``splits.csv`` with the difference from one network per task and its bootstrap over users, because the scores are not
committed.
"""

from __future__ import annotations

import argparse
import csv
from collections import defaultdict
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from board import shortened

from stemlab.data.io.output_file import write_text_file
from stemlab.reporting.collect import Run, collect, compact, save_copies
from stemlab.reporting.record_lines import append_record
from stemlab.reporting.scores import TaskScores, load_scores
from stemlab.reporting.statistics import bootstrap_auc_over_groups
from stemlab.reproduction.differences import model_differences

RECORDS = Path(__file__).parent / "records"
REPRODUCED = RECORDS / "kuairand_log"  # runs of `python -m stemlab.reproduce negative_transfer`
STUDY = RECORDS / "kuairand_log_study"  # all other runs, and splits.csv
BASELINE = "single_task"
TASKS = ("is_comment", "is_profile_enter", "is_click", "long_view")
RARE = TASKS[:2]
# Stopping rules: early stopping and best epoch by the mean of the tasks; by each task alone; no early stopping, and the
# best epoch of each task. A network for one task has its own metric in all of them.
MEAN, PER_TASK, NO_STOP = "mean", "per task", "none"
SHARED = ("shared_bottom", "mmoe", "ple", "stem")
TIME = "time"
LONG = "_20_epochs"  # end of the names of models that `stemlab.reproduce` trains without early stopping
FIELDS = ("model", "stopping", "split", "task", "baseline", "difference", "standard_error", "p")

Key = tuple[str, str]  # model and stopping rule
Splits = Mapping[tuple[str, str, str, str], Mapping[str, float]]  # rows of splits.csv
Auc = Mapping[Key, Mapping[str, Mapping[str, float]]]  # then split and task


def model_label(run: Run) -> str:
    """Return the name of a model with its balancing method, or of an ablation of STEM."""
    model = run.config["model"]
    name, net = str(model["name"]).removesuffix(LONG), model["net"]
    if name == "stem" and net["gate"] == "all_backward":
        name = "stem, no stop-gradient"
    if name == "stem" and net["tables"] == "shared_only":
        name = "stem, one table"
    return f"{name}, {model['balancing']}" if model["balancing"] else name


def key_of(run: Run) -> Key:
    """Return the model of a run and the rule that stopped it."""
    if run.config["callbacks"]["early_stop"]["patience"] >= run.config["trainer"]["max_epochs"]:
        return model_label(run), NO_STOP
    return model_label(run), PER_TASK if run.config["callbacks"]["checkpoint"]["per_task"] else MEAN


def baseline_of(key: Key) -> Key:
    """Return the networks per task to which a model is compared: those trained without early stopping, if it is."""
    return BASELINE, NO_STOP if key[1] == NO_STOP else MEAN


def split_of(run: Run) -> str:
    """Return the seed of the random split, or ``time``."""
    split = run.config["dataset"]["split"]
    return TIME if split["rule"] == TIME else str(split["seed"])


def read_auc(runs: Sequence[Run]) -> Auc:
    """Return model and stopping rule -> split -> task -> test AUC; runs on one task share the baseline."""
    found: dict[Key, dict[str, dict[str, float]]] = defaultdict(lambda: defaultdict(dict))
    for run in runs:
        for task in run.tasks:
            if (value := run.metric(f"test/auc/{task}")) is not None:
                found[key_of(run)][split_of(run)][task] = value
    return found


def tested_splits(runs: Sequence[Run], known: Splits) -> list[dict[str, Any]]:
    """Return one row per run and task that the baseline also has, with the bootstrap over users.

    Args:
        runs: finished runs with saved test scores.
        known: earlier rows; they are kept if the AUC of both runs is the same.
    """
    load = cache(load_scores)
    base = {(key_of(run), split_of(run), run.tasks[0]): run for run in runs if run.alone}
    rows = []
    for run in sorted((run for run in runs if not run.alone), key=lambda run: (key_of(run), split_of(run))):
        for task in TASKS:
            alone = base.get((baseline_of(key_of(run)), split_of(run), task))
            if alone is None:
                continue
            values = (alone.record["metrics"][f"test/auc/{task}"], run.record["metrics"][f"test/auc/{task}"])
            place = (*key_of(run), split_of(run), task)
            old = known.get(place)
            if old and np.allclose([old["baseline"], old["baseline"] + old["difference"]], values, rtol=0, atol=2e-6):
                rows.append(dict(zip(FIELDS, (*place, *old.values()), strict=True)))
                continue
            ours, theirs = load(run.path), load(alone.path)
            assert isinstance(ours, TaskScores), run.path
            assert isinstance(theirs, TaskScores), alone.path
            if ours.fingerprint != theirs.fingerprint or ours.group_B is None:
                raise SystemExit(f"{run.path} and {alone.path} have other samples, or no users.")
            scores = (ours.labels(task), ours.prob(task), theirs.prob(task), ours.group_B)
            test = bootstrap_auc_over_groups(*scores)
            numbers = (values[0], test.difference, test.standard_error, test.p)
            rows.append(dict(zip(FIELDS, (*place, *numbers), strict=True)))
    return rows


def read_splits(path: Path = STUDY / "splits.csv") -> Splits:
    """Return the rows of ``splits.csv`` by model, stopping rule, split and task."""
    if not path.is_file():
        return {}
    with path.open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    return {
        (row["model"], row["stopping"], row["split"], row["task"]): {name: float(row[name]) for name in FIELDS[4:]}
        for row in rows
    }


def _reproduced(run: Run) -> bool:
    names = run.alone and run.tasks[0] in RARE, model_label(run) in SHARED
    return split_of(run) != TIME and key_of(run)[1] == MEAN and any(names)


def _named_by_rule(run: Run) -> Run:
    """Return a run without early stopping under the name that it has in a reproduction."""
    model = {**run.record["config"]["model"], "name": f"{model_label(run)}{LONG}"}
    return Run(run.path, {**run.record, "config": {**run.record["config"], "model": model}, "model": model["name"]})


def write_differences(runs: Sequence[Run]) -> None:
    """Write the recorded differences with which `python -m stemlab.reproduce negative_transfer` is compared.

    Args:
        runs: all runs; used are those of the shared tables, stopped on the mean or trained without early stopping.
    """
    long = [run for run in runs if split_of(run) != TIME and key_of(run) in [(model, NO_STOP) for model in SHARED]]
    compared = [*filter(_reproduced, runs), *map(_named_by_rule, long)]
    found = model_differences(compared, BASELINE, ["auc"], "dataset.split.seed")
    lines = [
        "# Mean difference of test AUC from one network per task over six random splits (docs/negative_transfer.md),",
        "# with its standard error. Made from records in this repository; nothing is published.",
        "title: the recorded runs",
        "tolerance: {auc: 0.015}",
        "rows:",
    ]
    for model in [*SHARED, *(f"{name}{LONG}" for name in SHARED)]:
        cells = [
            f"{one.column}: [{one.difference:.4f}, {one.standard_error:.4f}]" for one in found if one.model == model
        ]
        lines.append(f"  - match: {{model: {model}}}\n    metrics: {{{', '.join(sorted(cells))}}}")
    write_text_file(REPRODUCED / "differences.yaml", "\n".join(lines) + "\n")


def main() -> None:
    """Write records and ``splits.csv``."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="+", help="folders of runs")
    runs = collect(parser.parse_args().runs, {"dataset": "kuairand_log"}).runs
    for old in (*REPRODUCED.glob("*.json"), *STUDY.glob("*.jsonl")):
        old.unlink()
    reproduced = [run for run in runs if _reproduced(run)]
    save_copies(reproduced, REPRODUCED)
    write_differences(runs)
    for run in runs:
        if not _reproduced(run):
            append_record(STUDY / "runs.jsonl", shortened(compact(run.record)))
    rows = tested_splits(runs, read_splits())
    with (STUDY / "splits.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, FIELDS, lineterminator="\n")
        writer.writeheader()
        for row in rows:
            writer.writerow({key: f"{one:.6g}" if isinstance(one, float) else one for key, one in row.items()})


if __name__ == "__main__":
    main()

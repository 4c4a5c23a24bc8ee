"""Table of negative transfer: test AUC of each model minus that of one network per task on the same split.

    python scripts/negative_transfer.py runs/studies/kuairand_log
    python scripts/negative_transfer.py scripts/records/kuairand_log_tuning --tuning

The mean difference over splits, its standard error, and the p-value of a paired t-test, corrected with Holm's method
over all cells of the table. Splits share rows, so the test is approximate (its errors are not independent). With
``--tuning``: validation AUC of each model with each embedding L2, on one split.
"""

from __future__ import annotations

import argparse
import json
from collections import defaultdict
from pathlib import Path

import numpy as np
from scipy import stats

BASELINE = "single_task"


def read_auc(runs: Path) -> dict[str, dict[str, dict[int, float]]]:
    """Return task -> model -> split seed -> test AUC of finished runs in a folder, or of copies of their records."""
    found: dict[str, dict[str, dict[int, float]]] = defaultdict(lambda: defaultdict(dict))
    for path in sorted([*runs.glob("*/record.json"), *runs.glob("*.json")]):
        record = json.loads(path.read_text(encoding="utf-8"))
        if record["status"] != "finished":
            continue
        config, metrics = record["config"], record["metrics"]
        tasks = [config["model"]["task"]] if config["model"]["task"] else config["dataset"]["tasks"]
        for task in tasks:
            value = metrics.get(f"test/auc/{task}", metrics.get("test/auc"))
            found[task][config["model"]["name"]][config["dataset"]["split"]["seed"]] = value
    return found


def holm(p_values: list[float]) -> list[float]:
    """Return p-values adjusted with Holm's step-down method."""
    order = np.argsort(p_values)
    adjusted, largest = np.empty(len(p_values)), 0.0
    for rank, index in enumerate(order):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[index]))
        adjusted[index] = largest
    return list(adjusted)


def tuning_table(runs: Path) -> str:
    """Return the validation AUC of every model and embedding L2 in Markdown, one column per task of ``single_task``."""
    found: dict[tuple[str, float], dict[str, float]] = defaultdict(dict)
    tasks: list[str] = []
    for path in sorted(runs.glob("*.json")):
        record = json.loads(path.read_text(encoding="utf-8"))
        model, metrics = record["config"]["model"], record["metrics"]
        task = model["task"]
        tasks += [task] if task and task not in tasks else []
        values = (
            {task: metrics["val/auc"]} if task else {key[8:]: metrics[key] for key in metrics if key[:8] == "val/auc/"}
        )
        found[model["name"], model["embedding_regularizer"]] |= values
    lines = ["| model | embedding L2 | " + " | ".join([*tasks, "mean"]) + " |", "|---" * (len(tasks) + 3) + "|"]
    for (name, penalty), values in sorted(found.items(), key=lambda item: (item[0][0] != BASELINE, item[0])):
        cells = [f"{values[task]:.4f}" for task in tasks] + [f"{np.mean([values[task] for task in tasks]):.4f}"]
        lines.append(f"| {name} | {penalty:.0e} | {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> None:
    """Print the table in Markdown."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", type=Path)
    parser.add_argument("--tuning", action="store_true")
    arguments = parser.parse_args()
    if arguments.tuning:
        print(tuning_table(arguments.runs))
        return
    auc = read_auc(arguments.runs)
    tasks = [task for task, models in auc.items() if BASELINE in models]
    cells: dict[tuple[str, str], np.ndarray] = {}
    for task in tasks:
        base = auc[task][BASELINE]
        for model, values in auc[task].items():
            splits = sorted(set(values) & set(base))
            if model != BASELINE and len(splits) > 1:
                cells[model, task] = np.array([values[split] - base[split] for split in splits])
    adjusted = dict(zip(cells, holm([stats.ttest_1samp(cell, 0).pvalue for cell in cells.values()]), strict=True))
    means = {task: np.mean(list(auc[task][BASELINE].values())) for task in tasks}
    print("| model | " + " | ".join(f"{task} ({BASELINE} {means[task]:.4f})" for task in tasks) + " |")
    print("|---" * (len(tasks) + 1) + "|")
    for model in dict.fromkeys(model for model, _ in cells):
        row = []
        for task in tasks:
            cell = cells[model, task]
            error = cell.std(ddof=1) / np.sqrt(len(cell))
            row.append(f"{cell.mean():+.4f} ± {error:.4f} (p {adjusted[model, task]:.3g}, {len(cell)} splits)")
        print(f"| {model} | " + " | ".join(row) + " |")


if __name__ == "__main__":
    main()

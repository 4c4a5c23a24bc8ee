"""Table of negative transfer: test AUC of each model minus that of one network per task on the same split.

    python scripts/negative_transfer.py runs/studies/kuairand_log

The mean difference over splits, its standard error, and the p-value of a paired t-test, corrected with Holm's method
over all cells of the table. Splits share rows, so the test is approximate (its errors are not independent).
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


def main() -> None:
    """Print the table in Markdown."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", type=Path)
    auc = read_auc(parser.parse_args().runs)
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

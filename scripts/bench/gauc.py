"""gAUC of a million samples in 30,000 groups: stemlab against one scikit-learn call per group, in one process.

    python scripts/bench/gauc.py [--rows 1000000] [--groups 30000] [--repeats 5]

The baseline sorts the samples by group (included in its time) and calls ``roc_auc_score`` on each group with both
classes. Writes ``results/gauc.json``.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import sklearn
from sklearn.metrics import roc_auc_score

from stemlab.array_types import AnyArray
from stemlab.metrics import gauc


def make_rows(rows: int, groups: int) -> tuple[AnyArray, AnyArray, AnyArray]:
    """Return labels, float32 scores with ties, and group keys in any order."""
    rng = np.random.default_rng(0)
    labels = (rng.random(rows) < 0.37).astype(np.int8)
    scores = (rng.random(rows) * 0.7 + 0.3 * labels * rng.random(rows)).astype(np.float32).round(4)
    return labels, scores, rng.integers(0, groups, rows)


def gauc_by_loop(labels: AnyArray, scores: AnyArray, groups: AnyArray) -> float:
    """Return gAUC by one scikit-learn call per group."""
    order = np.argsort(groups, kind="stable")
    cuts = np.flatnonzero(np.diff(groups[order])) + 1
    total = weight = 0.0
    for y, s in zip(np.split(labels[order], cuts), np.split(scores[order], cuts), strict=True):
        if 0 < y.sum() < len(y):
            total, weight = total + len(y) * roc_auc_score(y, s), weight + len(y)
    return total / weight


def timed(function: Callable[[], float]) -> tuple[float, float]:
    """Return (value, seconds)."""
    start = time.perf_counter()
    value = function()
    return value, time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--groups", type=int, default=30_000)
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()
    data = make_rows(options.rows, options.groups)
    ours, twin = [], []
    for _ in range(options.repeats):
        ours.append(timed(lambda: gauc(*data)))
        twin.append(timed(lambda: gauc_by_loop(*data)))
    ours_s, twin_s = (statistics.median(s for _, s in runs) for runs in (ours, twin))
    result = {
        "rows": options.rows,
        "groups": options.groups,
        "repeats": options.repeats,
        "scikit_learn": sklearn.__version__,
        "stemlab_s": ours_s,
        "scikit_learn_loop_s": twin_s,
        "stemlab_s_all": [s for _, s in ours],
        "scikit_learn_loop_s_all": [s for _, s in twin],
        "ratio": round(twin_s / ours_s, 1),
        "difference": abs(ours[0][0] - twin[0][0]),
    }
    path = Path(__file__).parent / "results" / "gauc.json"
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()

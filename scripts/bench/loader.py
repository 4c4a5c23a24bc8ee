"""Samples per second of the training loader and of a per-sample Dataset with the default collate, in one process.

    python scripts/bench/loader.py [--rows 200000] [--repeats 5]

Samples have the shape of the TikTok dataset (8 id fields, 2 labels, 1 group key). Two per-sample datasets: ``matrix``
returns a row of one matrix that holds all columns (as STEM's released code does; the faster one), ``columns`` returns a
dictionary of ids, labels and group. Training loaders shuffle; batch size 4096. Writes ``results/loader.json``.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from stemlab.data.batch_order import SequentialOrder, ShuffledOrder
from stemlab.data.loader import BatchLoader
from stemlab.data.store import ColumnStore, write_store

BATCH = 4096
FIELDS = tuple(f"field_{k}" for k in range(8))


class MatrixRows(Dataset[Any]):
    """Dataset of the rows of one float64 matrix: ids, labels, group key."""

    def __init__(self, store: ColumnStore) -> None:
        parts = (store.ids, store.labels, store.group[:, None])
        self.matrix = np.concatenate([part.astype(np.float64) for part in parts], axis=1)

    def __len__(self) -> int:
        return len(self.matrix)

    def __getitem__(self, row: int) -> Any:
        return self.matrix[row]


class ColumnRows(Dataset[Any]):
    """Dataset of dictionaries with ids, labels and group key."""

    def __init__(self, store: ColumnStore) -> None:
        self.ids, self.labels, self.group = (np.array(c) for c in (store.ids, store.labels, store.group))

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, row: int) -> Any:
        return {"ids": self.ids[row], "labels": self.labels[row], "group": self.group[row]}


def make_store(path: Path, rows: int) -> ColumnStore:
    rng = np.random.default_rng(0)
    ids = rng.integers(1, 100_000, (rows, len(FIELDS))).astype(np.int32)
    labels = (rng.random((rows, 2)) < [0.37, 0.012]).astype(np.int8)
    return write_store(path, FIELDS, ("finish", "like"), ids, labels, ids[:, 0].astype(np.int64))


def seconds(loader: Iterable[Any]) -> float:
    start = time.perf_counter()
    for _ in loader:
        pass
    return time.perf_counter() - start


def measure(store: ColumnStore, repeats: int) -> dict[str, list[float]]:
    """Return loader -> samples per second of each repeat; the loaders run in turn."""
    shuffled = BatchLoader(store, ShuffledOrder(len(store), BATCH, seed=1))
    loaders: dict[str, Iterable[Any]] = {
        "stemlab_train": shuffled,
        "stemlab_eval": BatchLoader(store, SequentialOrder(len(store), 4 * BATCH)),
        "per_sample_matrix": DataLoader(MatrixRows(store), BATCH, shuffle=True),
        "per_sample_columns": DataLoader(ColumnRows(store), BATCH, shuffle=True),
    }
    rates: dict[str, list[float]] = {name: [] for name in loaders}
    for repeat in range(repeats):
        shuffled.set_epoch(repeat)
        for name, loader in loaders.items():
            rates[name].append(len(store) / seconds(loader))
    return rates


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=200_000)
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        rates = measure(make_store(Path(folder) / "train.arrow", options.rows), options.repeats)
    median = {name: statistics.median(values) for name, values in rates.items()}
    result = {
        "rows": options.rows,
        "batch_size": BATCH,
        "repeats": options.repeats,
        "torch": torch.__version__,
        "rows_per_s": {name: round(value) for name, value in median.items()},
        "rows_per_s_all": {name: [round(v) for v in values] for name, values in rates.items()},
        "ratio_to_per_sample_matrix": round(median["stemlab_train"] / median["per_sample_matrix"], 1),
        "ratio_to_per_sample_columns": round(median["stemlab_train"] / median["per_sample_columns"], 1),
    }
    path = Path(__file__).parent / "results" / "loader.json"
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()

"""Milliseconds per training batch of 256 sequences with negatives, compared with a per-sample loader, in one process.

    python scripts/bench/sequence_loader.py [--batches 400] [--repeats 5]

Generated interactions in the size of MovieLens-1M (6,040 users, 3,706 items, about a million). The per-sample loader
works like the released code: one dictionary per sample from the user's list of (item, time) pairs; negatives drawn for
all samples, then redrawn one by one while the user has the item; a collate function that pads with torch. Both times
include a batch's share of drawing the epoch's negatives (the per-sample loader draws for the measured samples only).
Measurements of the two loaders alternate. Writes ``results/sequence_loader.json``.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.nn.utils.rnn import pad_sequence
from torch.utils.data import DataLoader, Dataset

from stemlab.data.sequence.datamodule import SequenceDataModule
from stemlab.data.sequence.loader import SequenceLoader
from stemlab.data.sequence.prepare import prepare_sequences
from stemlab.data.sequence.raw import RawSequences

USERS, ITEMS, ROWS = 6040, 3706, 1_000_000
BATCH, HISTORY = 256, 20


class Generated(SequenceDataModule):
    """Random interactions; each user's last two are valid and test."""

    def __init__(self, root: Path) -> None:
        super().__init__(name="generated", batch_size=BATCH, history_max=HISTORY, seed=1)
        self.root = root

    def build(self) -> Path:
        """Prepare the generated interactions."""
        return prepare_sequences(
            lambda advance: generate(), name=self.name, reader="bench/1", settings={}, files=[], root=self.root
        )


def generate() -> RawSequences:
    rng = np.random.default_rng(0)
    share = rng.dirichlet(np.full(USERS, 0.7))
    length = 20 + rng.multinomial(ROWS - 20 * USERS, share)
    user = np.repeat(np.arange(1, USERS + 1), length)
    last = np.cumsum(length)
    split = np.zeros(ROWS, dtype=np.int8)
    split[last - 1], split[last - 2] = 2, 1
    popular = rng.permutation(ITEMS) + 1
    item = popular[(ITEMS * rng.beta(0.7, 3, ROWS)).astype(np.int64)]
    seconds = 956_703_932 + np.sort(rng.integers(0, 10**8, ROWS))
    tokens = [str(n) for n in range(1, max(USERS, ITEMS) + 1)]
    return RawSequences(
        user=user, item=item, time=seconds, split=split, user_tokens=tokens[:USERS], item_tokens=tokens[:ITEMS]
    )


class PerSample(Dataset[Any]):
    """Dataset with one dictionary per sample, as in the released code."""

    def __init__(self, data: SequenceDataModule, rows: np.ndarray[Any, Any]) -> None:
        log = data.log
        self.sequences: dict[int, list[tuple[int, int]]] = {}
        self.train_items: dict[int, set[int]] = {}
        columns = (log.user.tolist(), log.item.tolist(), log.time.tolist(), log.split.tolist())
        for user, item, seconds, split in zip(*columns, strict=True):
            self.sequences.setdefault(user, []).append((item, seconds))
            if split == 0:
                self.train_items.setdefault(user, set()).add(item)
        self.user, self.item = log.user[rows], log.item[rows]
        self.position = rows - log.start[self.user]
        self.negatives = np.zeros((len(rows), 1), dtype=np.int64)

    def draw(self) -> None:
        """Draw the negatives of an epoch."""
        self.negatives = np.random.randint(1, ITEMS + 1, self.negatives.shape)
        for row, user in enumerate(self.user):
            for column in range(self.negatives.shape[1]):
                while self.negatives[row, column] in self.train_items[user]:
                    self.negatives[row, column] = np.random.randint(1, ITEMS + 1)

    def __len__(self) -> int:
        return len(self.user)

    def __getitem__(self, row: int) -> dict[str, Any]:
        before = self.sequences[self.user[row]][: self.position[row]][-HISTORY:]
        return {
            "user": self.user[row],
            "candidates": np.concatenate([[self.item[row]], self.negatives[row]]).astype(int),
            "history": np.array([pair[0] for pair in before]),
            "times": np.array([pair[1] for pair in before]),
            "length": len(before),
        }


def collate(rows: list[dict[str, Any]]) -> dict[str, torch.Tensor]:
    """Pad arrays and stack scalars."""
    batch = {}
    for name, first in rows[0].items():
        values = [row[name] for row in rows]
        if isinstance(first, np.ndarray):
            batch[name] = pad_sequence([torch.from_numpy(value) for value in values], batch_first=True)
        else:
            batch[name] = torch.from_numpy(np.array(values))
    return batch


def milliseconds(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return (time.perf_counter() - start) * 1e3


def time_epoch(loader: SequenceLoader, epoch: int) -> float:
    """Return milliseconds per batch over an epoch."""
    loader.set_epoch(epoch)
    return milliseconds(lambda: sum(len(batch) for batch in loader)) / len(loader)


def time_per_sample_loader(twin: PerSample, batches: int) -> float:
    """Return milliseconds per batch over ``batches`` batches, including the negatives of their samples."""
    loader = DataLoader(twin, BATCH, shuffle=True, collate_fn=collate)

    def run() -> None:
        twin.draw()
        for _ in islice(loader, batches):
            pass

    return milliseconds(run) / batches


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batches", type=int, default=400, help="batches of the per-sample loader")
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        data = Generated(Path(folder))
        data.setup()
        ours = data.train_dataloader()
        rows = np.random.default_rng(0).choice(ours.instances.row, options.batches * BATCH, replace=False)
        twin = PerSample(data, rows)
        times: dict[str, list[float]] = {"stemlab": [], "negatives_of_it": [], "per_sample_twin": []}
        for repeat in range(options.repeats):
            times["stemlab"].append(time_epoch(ours, repeat))
            times["negatives_of_it"].append(milliseconds(lambda epoch=repeat: ours.negatives.draw(epoch)) / len(ours))
            times["per_sample_twin"].append(time_per_sample_loader(twin, options.batches))
    median = {name: statistics.median(values) for name, values in times.items()}
    result = {
        "instances": len(ours.instances),
        "batch_size": BATCH,
        "history_max": HISTORY,
        "negatives": 1,
        "repeats": options.repeats,
        "torch": torch.__version__,
        "ms_per_batch": {name: round(value, 4) for name, value in median.items()},
        "ms_per_batch_all": {name: [round(v, 4) for v in values] for name, values in times.items()},
        "ratio_to_per_sample_twin": round(median["per_sample_twin"] / median["stemlab"], 1),
    }
    path = Path(__file__).parent / "results" / "sequence_loader.json"
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()

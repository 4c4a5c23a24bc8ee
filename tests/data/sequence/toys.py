"""Small sequence datasets in memory, and a plain Python implementation of their instances."""

from pathlib import Path

import numpy as np

from stemlab.data.sequence.datamodule import SequenceDataModule
from stemlab.data.sequence.prepare import prepare_sequences
from stemlab.data.sequence.raw import RawSequences


class Toy(SequenceDataModule):
    """Datamodule of given interactions; one dataset per folder."""

    def __init__(self, raw: RawSequences, root: Path, **settings):
        super().__init__(name="toy", **settings)
        self.raw, self.root = raw, Path(root)

    def build(self) -> Path:
        return prepare_sequences(
            lambda advance: self.raw, name="toy", reader="toy/1", settings={}, files=[], root=self.root
        )


def raw_of(rows, users, items, **more):
    """Return raw sequences of rows (user, item, time, split code)."""
    table = np.array(rows, dtype=np.int64).reshape(-1, 4)
    return RawSequences(
        user=table[:, 0],
        item=table[:, 1],
        time=table[:, 2],
        split=table[:, 3],
        user_tokens=[f"u{n}" for n in range(1, users + 1)],
        item_tokens=[f"i{n}" for n in range(1, items + 1)],
        **more,
    )


def leave_two_out(users, items, seed=0, least=3, most=30):
    """Return random rows: each user's last row is test, the one before valid; times repeat; all users occur."""
    rng = np.random.default_rng(seed)
    rows = []
    for user in range(1, users + 1):
        length = int(rng.integers(least, most + 1))
        times = np.sort(rng.integers(0, 4 * length, length))
        split = [0] * (length - 2) + [1, 2]
        rows += zip([user] * length, rng.integers(1, items + 1, length), times, split, strict=True)
    return rows


def reference_instances(rows, code, history_max):
    """Return (user, item, history, times) of every instance of a split, row by row."""
    sequences = {}
    for user, item, time, split in sorted(rows, key=lambda row: (row[0], row[2])):  # stable
        sequences.setdefault(user, []).append((item, time, split))
    found = []
    for user, sequence in sequences.items():
        for position, (item, _, split) in enumerate(sequence):
            before = sequence[max(position - history_max, 0) : position]
            if split == code and before:
                found.append((user, item, [row[0] for row in before], [row[1] for row in before]))
    return found

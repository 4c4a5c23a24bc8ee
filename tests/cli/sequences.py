"""A small dataset of sequences in the ReChorus format, and the overrides of runs on it."""

from pathlib import Path

import numpy as np

USERS, ITEMS, NEGATIVES = 101, 60, 20  # 101 rows per split: divisible neither by the batch size nor by two ranks

SEQUENCE_DATA = [
    "dataset=rechorus",
    "dataset.raw_dir=folder",
    "dataset.history_max=6",
    "dataset.evaluation.topk=[5,10]",
]
FAST = ["dataset.batch_size=32", "dataset.eval_batch_size=16", "optim.lr=0.003", "logger=csv"]
NET = ["model.net.embedding_dim=8"]
NO_STOP = ["callbacks.early_stop.enabled=false", "trainer.log_every_n_steps=1"]
TIMIREC = ["model=timirec", *SEQUENCE_DATA, *FAST, *NET, *NO_STOP, "trainer.max_epochs=2"]
SASREC = ["model=sasrec", *SEQUENCE_DATA, *FAST, *NET, *NO_STOP]


def write_folder(directory: Path, seed: int = 0) -> None:
    """Write a dataset in which each user interacts with one third of the items: something to learn."""
    rng = np.random.default_rng(seed)
    rows: dict[str, list[str]] = {"train": [], "dev": [], "test": []}
    for user in range(1, USERS + 1):
        items = rng.permutation(ITEMS // 3)[: rng.integers(4, 15)] + 1 + (ITEMS // 3) * rng.integers(0, 3)
        for position, item in enumerate(items):
            name = {len(items) - 2: "dev", len(items) - 1: "test"}.get(position, "train")
            others = rng.choice(np.setdiff1d(np.arange(1, ITEMS + 1), items), NEGATIVES).tolist()
            negatives = "" if name == "train" else f"\t{others}"
            rows[name].append(f"{user}\t{item}\t{1000 * position + user}{negatives}")
    directory.mkdir()
    for name, lines in rows.items():
        lines.sort(key=lambda line: int(line.split("\t")[2]))
        head = "user_id\titem_id\ttime" + ("" if name == "train" else "\tneg_items")
        (directory / f"{name}.csv").write_text("\n".join([head, *lines]) + "\n")

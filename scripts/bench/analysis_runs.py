"""A prepared dataset and four finished runs of any size, for ``analysis.py``; run as a script, it only writes them.

    python scripts/bench/analysis_runs.py FOLDER --rows 5000000 --items 1000000 --width 48 --pairs 20000000

Users and items have at least two training samples, except one user and one item with a single sample each, so that the
filter ``analysis.activity=0`` keeps all others. Every test sample is a pair of the kept users and items, so that all
pairs are analysed. A run is trained for one step, as ``stemlab.train`` does, from random tables with decaying singular
values. Its checkpoint includes both Adam moments of every weight, so it is three times as large as the tables.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch

from stemlab.config.compose import compose
from stemlab.data.prepare.manifest import FORMAT, fingerprint_of, write_manifest
from stemlab.data.spec import DatasetSpec, Field
from stemlab.data.store import StoreWriter
from stemlab.models import parameter_counts
from stemlab.runs.build import build_datamodule, build_module, build_trainer
from stemlab.runs.environment import silence_lightning
from stemlab.runs.recorder import Recorder
from stemlab.runs.run_callbacks import build_callbacks

FIELDS, TASKS, GROUP = ("uid", "item_id"), ("finish", "like"), "uid"
RUNS = {
    "finish": ("model=single_task", "model.task=finish"),
    "like": ("model=single_task", "model.task=like"),
    "control": ("model=single_task", "model.task=like", "seed=7"),
    "joint": ("model=shared_bottom",),
}
TRAINED = (
    *("dataset=tiktok", f"dataset.fields=[{','.join(FIELDS)}]", "dataset.batch_size=1024", "dataset.min_count=1"),
    *("trainer.max_epochs=1", "trainer.limit_train_batches=1", "callbacks.diagnostics.enabled=false", "logger=none"),
    *("callbacks.progress=false", "callbacks.checkpoint.save_last=false", "test=false", "optim.lr=1e-6"),
    *("model.net.bottom_hidden_units=[8]", "model.net.tower_hidden_units=[8]", "model.embedding_regularizer=0.0"),
)
VALID_ROWS, BLOCK = 20_000, 1 << 20


def write_dataset(data_dir: Path, users: int, items: int, pairs: int) -> Path:
    """Write a prepared dataset in blocks of samples and return its directory."""
    rows = {"train": 2 * users - 1, "valid": VALID_ROWS, "test": pairs}
    fingerprint = fingerprint_of({"reader": "bench/1", "users": users, "items": items, "rows": rows})
    folder = data_dir / "prepared" / f"tiktok-{fingerprint[:12]}"
    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    for split, count in rows.items():
        with StoreWriter(folder / f"{split}.arrow", count, FIELDS, TASKS) as writer:
            for start in range(0, count, BLOCK):
                row = np.arange(start, min(start + BLOCK, count))
                if split == "train":  # the second pass leaves out the first user and item
                    user = np.where(row < users, row + 1, row - users + 2)
                    item = np.where(row == 0, 1, 2 + (row - 1) % (items - 1))
                else:
                    user, item = (rng.integers(2, size, len(row), endpoint=True) for size in (users, items))
                labels = (rng.random((len(row), len(TASKS)), dtype=np.float32) < 0.3).astype(np.int8)
                writer.append(np.stack([user, item], axis=1).astype(np.int32), labels, user.astype(np.int64))
    sizes = (users + 2, items + 2)  # padding and out-of-vocabulary
    spec = DatasetSpec("tiktok", tuple(map(Field, FIELDS, sizes)), TASKS, GROUP, sample=True)
    about = {"format": FORMAT, "sample": True, "spec": spec.to_dict(), "rows": rows, "fingerprint": fingerprint}
    write_manifest(folder, about)
    return folder


def write_run(folder: Path, prepared: Path, name: str, width: int) -> None:
    """Train one step from random tables; write a run directory with checkpoint and record."""
    directory, data_dir = folder / name, prepared.parent.parent
    words = [*TRAINED, *RUNS[name], f"model.net.embedding_dim={width}", f"paths.data_dir={data_dir}"]
    config = compose("train", [*words, f"paths.output_dir={directory}"])
    recorder = Recorder("train", config, words, directory, 1)
    datamodule = build_datamodule(config)
    datamodule.adopt(prepared)
    module = build_module(config, datamodule)
    draw_tables(module.net, list(RUNS).index(name))
    recorder.set_dataset(datamodule.manifest, datamodule.spec.sample, parameter_counts(module.net))
    callbacks = build_callbacks(config, directory)
    trainer = build_trainer(config, directory, callbacks.all(), [], module, 1)
    trainer.fit(module, datamodule=datamodule)
    recorder.set_fit(trainer.current_epoch, callbacks.checkpoint, callbacks.throughput)
    recorder.set_metrics(module.metric_values, module.metric_warnings, callbacks.throughput)
    recorder.write("finished")


@torch.no_grad()
def draw_tables(net: torch.nn.Module, seed: int) -> None:
    """Fill the embedding tables with random values whose scale decays to 0.001 over the dimensions."""
    drawn = torch.Generator().manual_seed(seed)
    for weight in cast(Any, net).embedding.weights():
        weight.normal_(generator=drawn).mul_(torch.logspace(0, -3, weight.shape[1]))
        weight[0] = 0.0


def write_all(folder: Path, users: int, items: int, width: int, pairs: int) -> dict[str, Path]:
    """Write the dataset and all runs; return the run directories."""
    silence_lightning()
    prepared = write_dataset(folder / "data", users, items, pairs)
    for name in RUNS:
        write_run(folder, prepared, name, width)
    return {name: folder / name for name in RUNS}


def add_sizes(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--rows", type=int, default=5_000_000, help="users, rows of their table")
    parser.add_argument("--items", type=int, default=1_000_000, help="at least 3 and at most as many as users")
    parser.add_argument("--width", type=int, default=48)
    parser.add_argument("--pairs", type=int, default=20_000_000, help="test samples")


def check_sizes(chosen: argparse.Namespace) -> None:
    if not 3 <= chosen.items <= chosen.rows:
        sys.exit(f"error: --items {chosen.items} must be at least 3 and at most --rows {chosen.rows}.")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    add_sizes(parser)
    chosen = parser.parse_args()
    check_sizes(chosen)
    write_all(chosen.folder.absolute(), chosen.rows, chosen.items, chosen.width, chosen.pairs)


if __name__ == "__main__":
    main()

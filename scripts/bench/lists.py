"""CPU time per value of lists (``multivalued``, ``sequences``) against as many categorical fields (docs/inputs.md).

    python scripts/bench/lists.py

Preparation from CSV and Parquet and the batches of an epoch: 10 values per row, from which the time of the same table
without the values is subtracted. Embedding: 20 values of width 16 that share one table, forward and backward pass of
``FieldEmbedding`` for 4,096 samples. Variants take turns in one process on one thread. Writes ``results/lists.json``.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import statistics
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet
import torch
from timing import alternate, machine

from stemlab.config.compose import compose
from stemlab.config.instantiate import instantiate
from stemlab.config.raw_folder import dataset_settings
from stemlab.data.spec import Field, ImpressionSizes, ValueList
from stemlab.nn.embedding import FieldEmbedding

ROWS, VALUES, VOCABULARY = 100_000, 10, 1_000
BATCH, LENGTH, WIDTH, ITEMS = 4096, 20, 16, 10_000
FIELDS = [f"v{n}" for n in range(VALUES)]
INPUTS = {"without": ["user", "item"], "fields": ["user", "item", *FIELDS], "list": ["user", "item"]}
ATTENDED = ("din", "din_plus", "tin")
POOLINGS = ("mean", "attention", *ATTENDED)


def write_tables(folder: Path) -> None:
    """Write one table with the values as columns and as lists, as CSV and Parquet, and a description per variant."""
    rng = np.random.default_rng(0)
    values = rng.integers(0, VOCABULARY, (ROWS, VALUES)).astype(str)
    plain = {name: rng.integers(0, 5_000, ROWS) for name in ("user", "item")} | {"click": rng.integers(0, 2, ROWS)}
    columns: dict[str, dict[str, Any]] = {
        "without": {},
        "fields": {name: values[:, n] for n, name in enumerate(FIELDS)},
        "list": {"values": [list(row) for row in values]},
    }
    for variant, own in columns.items():
        table = pa.table(plain | own)
        pyarrow.parquet.write_table(table, folder / f"{variant}.parquet")
        if variant == "list":
            table = pa.table(plain | {"values": ["|".join(row) for row in values]})
        pyarrow.csv.write_csv(table, folder / f"{variant}.csv")
        lists = f"multivalued: {{values: {{max_length: {VALUES}}}}}\n" if variant == "list" else ""
        text = f"fields: {json.dumps(INPUTS[variant])}\ntasks: [click]\nmin_count: 1\n{lists}"
        (folder / f"{variant}.yaml").write_text(text, encoding="utf-8")


def datamodule(folder: Path, variant: str, kind: str, target: Path) -> Any:
    """Return the datamodule of a variant, prepared under ``target``."""
    words = [f"dataset.path={folder / variant}.{kind}", f"dataset.config={folder / variant}.yaml"]
    config = compose("prepare", ["dataset=table", *words, f"paths.data_dir={target}"])
    module = instantiate(dataset_settings(config), key="dataset")
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        module.prepare_data()
    return module


def prepare_again(folder: Path, variant: str, kind: str) -> None:
    with tempfile.TemporaryDirectory(dir=folder) as target:
        datamodule(folder, variant, kind, Path(target))


def read_epoch(module: Any) -> int:
    """Read all batches of an epoch; return the number of samples."""
    return sum(len(batch.labels_BT) for batch in module.train_dataloader())


def per_value(cpu: dict[str, list[float]], values: int) -> dict[str, float]:
    """Return nanoseconds per value of each variant: medians, without the time of the table without values."""
    medians = {name: statistics.median(seconds) for name, seconds in cpu.items()}
    base = medians.pop("without", 0.0)
    return {name: round((median - base) / values * 1e9, 2) for name, median in medians.items()}


def lookup(pooling: str | None) -> Callable[[], None]:
    """Return forward and backward pass for 20 fields that share a table (None), or for one list."""
    torch.manual_seed(0)
    names = [f"f{n}" for n in range(LENGTH)]
    if pooling is None:
        sizes = ImpressionSizes(dict.fromkeys(names, ITEMS), tables=dict.fromkeys(names[1:], names[0]))
        inputs: tuple[Any, ...] = (torch.randint(1, ITEMS, (BATCH, LENGTH)),)
    else:
        target, units = ("item", (80, 40)) if pooling in ATTENDED else (None, ())
        values = ValueList(LENGTH, pooling, target=target, attention_units=units)  # type: ignore[arg-type]
        sizes = ImpressionSizes({"item": ITEMS}, lists=(Field("history", ITEMS, "list", table="item", values=values),))
        ids, list_ids = torch.randint(1, ITEMS, (BATCH, 1)), torch.randint(1, ITEMS, (BATCH, LENGTH))
        inputs = (ids, None, None, list_ids, None)
    embedding = FieldEmbedding(sizes, ["shared"], WIDTH, padding=True)

    def step() -> None:
        embedding.zero_grad(set_to_none=True)
        embedding(*inputs)[0].sum().backward()

    return step


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--output", type=Path, default=Path(__file__).parent / "results" / "lists.json")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    found: dict[str, dict[str, float]] = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_tables(folder)
        for kind in ("csv", "parquet"):
            acts = {variant: partial(prepare_again, folder, variant, kind) for variant in INPUTS}
            _, cpu = alternate(acts, arguments.rounds, warmup=1)
            found[f"prepare from {kind}"] = per_value(cpu, ROWS * VALUES)
        modules = {variant: datamodule(folder, variant, "parquet", folder / "data") for variant in INPUTS}
        for module in modules.values():
            module.setup("fit")
        _, cpu = alternate({v: partial(read_epoch, module) for v, module in modules.items()}, 3 * arguments.rounds)
        found["batches of an epoch"] = per_value(cpu, read_epoch(modules["list"]) * VALUES)
    _, cpu = alternate({str(p or "fields"): lookup(p) for p in (None, *POOLINGS)}, arguments.rounds)
    found["embedding, forward and backward"] = per_value(cpu, BATCH * LENGTH)
    result = {**machine(1), "rounds": arguments.rounds, "unit": "ns of CPU time per value", "results": found}
    arguments.output.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()

"""Small AliExpress files for tests: generated columns in the publisher's or in MTReclib's format."""

from __future__ import annotations

import csv
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from stemlab.data.sample.aliexpress import AliexpressSimulation, write_sample
from stemlab.data.sources.aliexpress_columns import (
    ALIEXPRESS_TASKS,
    CATEGORICALS,
    ITEM_FILE,
    NUMERICALS,
    SEARCH_COLUMN,
    USER_FILE,
)
from tests.data.prepared_rows import datamodule

SIMULATION = AliexpressSimulation(rows=160, values=5, page_size=4.0)
PROCESSED_FILE = (SEARCH_COLUMN, *CATEGORICALS, *NUMERICALS, *ALIEXPRESS_TASKS)  # header of MTReclib's files
Lines = list[list[str]]


def aliexpress(folder: Path, **changed: Any) -> Any:
    """Return the datamodule that reads ``folder/raw``; one country by default."""
    return datamodule("aliexpress", folder, **{"scenarios": ["nl"], **changed})


def write_country(folder: Path, country: str = "nl", simulation: AliexpressSimulation = SIMULATION) -> Path:
    """Write a country's four raw files into ``folder/raw``."""
    (folder / "raw").mkdir(parents=True, exist_ok=True)
    return write_sample(folder / "raw", simulation, country)


def read_lines(path: Path) -> Lines:
    with path.open(newline="") as file:
        return list(csv.reader(file))


def write_lines(path: Path, lines: Sequence[Sequence[str]]) -> None:
    path.write_text("".join(",".join(line) + "\n" for line in lines))


def zip_files(archive: Path, *files: Path, within: str = "") -> None:
    """Pack files, as members of a folder ``within``, and delete them."""
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as packed:
        for file in files:
            packed.write(file, within + file.name)
            file.unlink()


def mtreclib_frame(folder: Path, country: str, split: str) -> Any:
    """Join a raw pair with pandas as in ``docs/methods/datasets.md#aliexpress-columns``: the reference."""
    users, items = (
        pd.read_csv(folder / f"{country}_{side}_{split}.csv", header=None, names=list(names))
        for side, names in (("user", USER_FILE), ("item", ITEM_FILE))
    )
    joined = users.merge(items, on=SEARCH_COLUMN, how="inner")
    joined["click"] = (joined["label"] >= 1).astype(int)
    joined["conversion"] = (joined["label"] == 2).astype(int)
    return joined[list(PROCESSED_FILE)]


def write_processed(folder: Path) -> Lines:
    """Write a country into ``folder/raw`` in MTReclib's format; return the lines of its training file."""
    raw = write_country(folder)
    for split in ("train", "test"):
        mtreclib_frame(raw, "nl", split).to_csv(raw / f"{split}.csv", index=False)
    for path in raw.glob("nl_*.csv"):
        path.unlink()
    return read_lines(raw / "train.csv")

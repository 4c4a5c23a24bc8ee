"""Generated impressions with numerical columns, scenarios, a shared vocabulary and a split column."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stemlab.data.io.progress import Advance
from stemlab.data.prepare.pipeline import prepare_impressions
from stemlab.data.prepare.preparation_settings import NumericalColumn, PreparationSettings
from stemlab.data.prepare.split import SplitRule

SCENARIOS = ("nl", "es", "fr")
NUMERICALS = (
    NumericalColumn(name="price", part="item", scaling="standard"),
    NumericalColumn(name="age", part="user", scaling="minmax"),
    NumericalColumn(name="rate", part="user"),
)
WORDS = ("", "red", "green", "blue")


def random_rows(rows: int, seed: int = 0) -> dict[str, NDArray[Any]]:
    """Draw raw columns; about a tenth of the numbers is missing."""
    rng = np.random.default_rng(seed)
    columns: dict[str, NDArray[Any]] = {
        name: (12 * rng.random(rows) ** 2).astype(np.int64) for name in ("item", "hist_1", "hist_2")
    }
    columns["colour"] = rng.integers(0, len(WORDS), rows)
    columns["user"] = rng.integers(1000, 1009, rows)
    columns["country"] = rng.integers(0, len(SCENARIOS), rows)
    columns["split"] = rng.choice([0, 0, 0, 1, 2], rows)
    columns["time"] = rng.integers(20220401, 20220431, rows)
    columns["click"], columns["buy"] = rng.integers(0, 2, rows), (rng.random(rows) < 0.2).astype(np.int64)
    for name, low, spread in (("price", 100.0, 30.0), ("age", 18.0, 5.0), ("rate", 0.0, 1.0)):
        values = rng.normal(low, spread, rows).astype(np.float32)
        columns[name] = np.where(rng.random(rows) < 0.1, np.float32(np.nan), values)
    return columns


class RawMixed:
    """Reader of columns in memory."""

    kind = "mixed/1"
    sample = True
    skipped = 0

    def __init__(self, file: Path, columns: Mapping[str, NDArray[Any]], chunk_rows: int = 37) -> None:
        self.files: Sequence[Path] = (file,)
        self.tokens: Mapping[str, Sequence[str]] = {"colour": WORDS}
        self._columns, self._chunk_rows = columns, chunk_rows

    def chunks(self, advance: Advance) -> Iterator[Mapping[str, NDArray[Any]]]:
        """Yield the columns in chunks."""
        del advance
        for start in range(0, len(self._columns["item"]), self._chunk_rows):
            yield {name: column[start : start + self._chunk_rows] for name, column in self._columns.items()}


def preparation(**changed: Any) -> PreparationSettings:
    """Return the preparation settings of these columns."""
    values: dict[str, Any] = {
        "name": "mixed",
        "fields": ("item", "colour", "hist_1", "hist_2"),
        "tasks": ("click", "buy"),
        "group": "user",
        "min_count": 3,
        "split": SplitRule(rule="given"),
        "time": "time",
        "numericals": NUMERICALS,
        "scenario": "country",
        "scenarios": SCENARIOS,
        "shared": {"hist_1": "item", "hist_2": "item"},
        "padding": {"hist_1": 0, "hist_2": 0},
    }
    return PreparationSettings(**{**values, **changed})


def prepare_mixed(folder: Path, columns: Mapping[str, NDArray[Any]], chunk_rows: int = 37, **changed: Any) -> Path:
    """Return the prepared directory of these columns."""
    file = folder / "raw.txt"
    file.write_text("unused; the columns are in memory")
    return prepare_impressions(
        RawMixed(file, columns, chunk_rows), preparation(**changed), folder / "prepared", "error"
    )

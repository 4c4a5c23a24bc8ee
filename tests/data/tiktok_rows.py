"""Generated TikTok rows and settings for the tests of preparation."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from stemlab.config.instantiate import instantiate
from stemlab.data.sample.tiktok import TIKTOK_COLUMNS
from stemlab.data.sources.tiktok import TIKTOK_FILE, TiktokDataModule
from tests.conf_files import read_yaml


def settings(name: str, **changed: Any) -> dict[str, Any]:
    """Return the config of a dataset as the command line composes it."""
    return {**read_yaml("dataset", name), "seed": 0, **changed}


def tiktok(folder: Path, **changed: Any) -> TiktokDataModule:
    """Return the datamodule that reads ``folder/raw`` and prepares in ``folder``."""
    paths = {"raw_dir": str(folder / "raw"), "data_dir": str(folder), "source": "raw"}
    made = instantiate(settings("tiktok", **{**paths, **changed}), key="dataset")
    assert isinstance(made, TiktokDataModule)
    return made


def random_columns(rows: int, seed: int = 0) -> dict[str, np.ndarray]:
    """Draw rows with skewed ids, some -1, and tied times."""
    rng = np.random.default_rng(seed)
    columns = {name: (30 * rng.random(rows) ** 2).astype(np.int64) - 1 for name in TIKTOK_COLUMNS}
    columns["finish"], columns["like"] = rng.integers(0, 2, rows), (rng.random(rows) < 0.1).astype(np.int64)
    columns["create_time"] = 53_085_000_000 + rng.integers(0, max(2, rows // 3), rows)
    return columns


def write_raw(folder: Path, columns: Mapping[str, np.ndarray], name: str = TIKTOK_FILE) -> Path:
    """Write columns as ``folder/raw/<name>``."""
    rows = zip(*(columns[column].tolist() for column in TIKTOK_COLUMNS), strict=True)
    return write_lines(folder, ["\t".join(map(str, row)) for row in rows], name)


def write_lines(folder: Path, lines: list[str], name: str = TIKTOK_FILE) -> Path:
    """Write lines as ``folder/raw/<name>``."""
    path = folder / "raw" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    return path

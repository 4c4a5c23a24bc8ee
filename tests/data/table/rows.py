"""Generated tables and their settings."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from omegaconf import OmegaConf

import stemlab.config.table_description  # noqa: F401 (registers the resolver of table.yaml)
from stemlab.config.instantiate import instantiate
from stemlab.data.sources.table import TableDataModule

CONF = Path(__file__).resolve().parents[3] / "conf" / "dataset"
DESCRIBED = {
    "fields": ["user_id", "item_id", "page"],
    "numericals": ["price", "age"],
    "tasks": ["click", "buy"],
    "group": "user_id",
    "min_count": 2,
}


def frame(rows: int = 400, seed: int = 0) -> pd.DataFrame:
    """Draw rows with every kind of column and some missing cells."""
    rng = np.random.default_rng(seed)
    price = np.round(rng.gamma(2.0, 10.0, rows), 2)
    price[rng.random(rows) < 0.1] = np.nan
    page = rng.choice(["home", "search", "cart page"], rows).astype(object)
    page[rng.random(rows) < 0.1] = None
    click = rng.integers(0, 2, rows)
    return pd.DataFrame(
        {
            "row": np.arange(rows) + 10**6,
            "user_id": [f"u{number:02d}" for number in (25 * rng.random(rows) ** 2).astype(int)],
            "item_id": (30 * rng.random(rows) ** 2).astype(int) + 100,
            "page": page,
            "country": rng.choice(["es", "fr", "nl"], rows),
            "price": price,
            "age": rng.integers(18, 80, rows),
            "ts": 1_700_000_000 + rng.permutation(rows) // 2,
            "is_new": rng.random(rows) < 0.5,
            "click": click,
            "buy": click * (rng.random(rows) < 0.4),
        }
    )


def table(folder: Path, rows: Path | None, option: str = "table", **changed: Any) -> TableDataModule:
    """Return the datamodule of a file, prepared in ``folder``."""
    node = OmegaConf.load(CONF / f"{option}.yaml")
    top = {"dataset": node, "paths": {"data_dir": str(folder)}, "seed": 0}
    plain: Any = OmegaConf.to_container(OmegaConf.create(top), resolve=True)
    split = {**plain["dataset"]["split"], **changed.pop("split", {})}
    described = DESCRIBED if option == "table" else {}
    settings = {**plain["dataset"], "path": rows and str(rows), **described, **changed, "split": split}
    made = instantiate(settings, key="dataset")
    assert isinstance(made, TableDataModule)
    return made


def save(rows: pd.DataFrame, path, **options):
    write = rows.to_parquet if path.suffix == ".parquet" else rows.to_csv
    write(path, index=False, **options)
    return path

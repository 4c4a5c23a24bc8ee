"""Generated tables with regression labels, conditional labels and weights, and their settings."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from stemlab.data.sources.table import TableDataModule
from tests.data.table.rows import frame, table

LABELS = {
    "buy": {"given": "click"},
    "seconds": {"kind": "regression"},
    "paid": {"kind": "regression", "given": "buy"},
}


def labelled_frame(rows: int = 400, seed: int = 0) -> pd.DataFrame:
    """Draw rows with clicks, purchases after a click, a watch time, an amount after a purchase, and weights."""
    rng = np.random.default_rng(seed + 1)
    drawn = frame(rows, seed)
    drawn["row"] = np.arange(rows)
    drawn["seconds"] = np.round(rng.gamma(2.0, 8.0, rows), 3)
    drawn["buy"] = np.where(drawn.click == 1, (rng.random(rows) < 0.4).astype(float), np.nan)
    drawn["paid"] = np.where(drawn.buy == 1, np.round(rng.gamma(2.0, 20.0, rows), 2), np.nan)
    drawn["w"] = np.round(rng.gamma(2.0, 0.5, rows), 3)
    return drawn


def labelled_table(folder: Path, rows: Path, **changed: Any) -> TableDataModule:
    """Return the datamodule of a file of ``labelled_frame``; its first numerical field is the row number."""
    settings = {
        "tasks": ["click", "buy", "seconds", "paid"],
        "labels": LABELS,
        "weight": "w",
        "numericals": ["row", "price"],
        "scaling": "none",
    }
    return table(folder, rows, **{**settings, **changed})

"""A small table with numbers, a scenario and lists, and scores of a network on it as ``predict`` computes them."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pandas as pd
import torch

from stemlab.config.compose import compose
from stemlab.inference.score_rows import Scorer, counts_file
from stemlab.runs.build import build_datamodule, build_module
from stemlab.runs.restore import RebuiltRun
from tests.data.table.list_rows import click_log, joined

DESCRIPTION = (
    *("dataset=table", "dataset.fields=[user_id,item_id]", "dataset.numericals=[age]", "dataset.tasks=[click,buy]"),
    *("dataset.scenario=page", "dataset.scenarios=[home,search]", "dataset.min_count=1", "model=shared_bottom"),
    *("+dataset.multivalued.genres.max_length=3", "+dataset.multivalued.genres.weights=genre_weights"),
    "model.net.embedding_dim=4",
)


class ScoringCase:
    """An untrained network on a prepared ``click_log``, and rows to score.

    Args:
        folder: folder of all files.
    """

    def __init__(self, folder: Path) -> None:
        self.folder, self.rows = folder, joined(click_log(200))
        self.rows.to_csv(folder / "log.csv", index=False)
        words = [*DESCRIPTION, f"dataset.path={folder}/log.csv", f"paths.data_dir={folder}/data"]
        self.config = compose("train", words)
        data = build_datamodule(self.config)
        data.prepare()
        torch.manual_seed(0)
        module = build_module(self.config, data)
        self._run = SimpleNamespace(
            config=self.config,
            datamodule=data,
            saved=SimpleNamespace(spec=data.spec),
            prepare=lambda: None,
            module=lambda: module,
        )

    def score(self, file: Path, **chosen: Any) -> tuple[pd.DataFrame, str]:
        """Return the scored rows of a file and the summary."""
        output = self.folder / "scores.parquet"
        settings = {"ckpt": "best.ckpt", "input": str(file), "output": str(output), "batch_size": None}
        policy = {"escape_csv": False, "on_bad_cell": "error", "unknown_scenario": None}
        scorer = Scorer({**settings, **policy, **chosen}, cast(RebuiltRun, self._run))
        scorer.run()
        return pd.read_parquet(output), scorer.summary()

    def counts(self) -> dict[str, Any]:
        """Return the counts that were written beside the last scores."""
        found: dict[str, Any] = json.loads(counts_file(self.folder / "scores.parquet").read_text())
        return found

    def write(self, name: str, **changed: dict[int, Any]) -> Path:
        """Write the first 20 rows; ``changed`` is column -> row -> cell."""
        rows = self.rows.head(20).astype(object)
        for column, cells in changed.items():
            for row, cell in cells.items():
                rows.loc[row, column] = cell
        path = self.folder / name
        if name.endswith(".jsonl"):
            rows.to_json(path, orient="records", lines=True)
        elif name.endswith(".inter"):
            rows.rename(columns=lambda column: f"{column}:token").to_csv(path, sep="\t", index=False)
        else:
            rows.to_csv(path, index=False)
        return path


def predictions(frame: pd.DataFrame) -> np.ndarray:
    """Return the scores, (rows, tasks)."""
    return frame[["pred_click", "pred_buy"]].to_numpy()

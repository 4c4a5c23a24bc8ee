"""Save the scores of an evaluation (``save_scores=true``), exact on any number of processes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from stemlab.array_types import AnyArray, Int64Array
from stemlab.data.datamodule import ImpressionDataModule, Split
from stemlab.data.sequence.loader import SequenceLoader
from stemlab.lightning.module import SplitMetrics
from stemlab.metrics import MultiTaskMetrics, RankingMetrics
from stemlab.metrics.gather import gather_rows, is_distributed
from stemlab.reporting.scores import RankScores, SampleScores, TaskScores, save_scores, scores_name
from stemlab.runs.build import DataModule


class ScoreFile:
    """Writes the samples on which a split was measured, before its metrics are computed.

    Args:
        path: the file; only rank 0 writes it.
        datamodule: gives the rows of the samples.
        split: the evaluated split.

    Attributes:
        scores: saved scores, on rank 0 only.
        tasks: tasks whose scores a further evaluation replaces in the file; ``None``: all.
    """

    def __init__(self, path: Path, datamodule: DataModule, split: Split) -> None:
        self.path, self.datamodule, self.split = path, datamodule, split
        self.scores: SampleScores | None = None
        self.tasks: Sequence[str] | None = None

    def __call__(self, metrics: SplitMetrics) -> None:
        """Gather the samples of all processes on rank 0 and write them there. Collective."""
        assert isinstance(metrics, MultiTaskMetrics | RankingMetrics)
        own = metrics.own_columns()
        own |= self._identity(len(next(iter(own.values()))))
        columns = {name: gather_rows(column).cpu().numpy() for name, column in own.items()}
        if is_distributed() and torch.distributed.get_rank():
            return
        order = np.argsort(columns["row"], kind="stable")  # several ranks evaluate in turn
        ordered = {name: column[order] for name, column in columns.items()}
        if isinstance(metrics, MultiTaskMetrics):
            found = _task_scores(self, metrics, ordered)
            earlier = self.scores if self.tasks is not None and isinstance(self.scores, TaskScores) else None
            self.scores = found if earlier is None else earlier.with_tasks(found, self.tasks or ())
        else:
            self.scores = RankScores(self.fingerprint, self.split, *(ordered[key] for key in ("row", "user", "rank")))
        save_scores(self.path, self.scores)

    @property
    def fingerprint(self) -> str:
        """Fingerprint of the prepared dataset."""
        return str(self.datamodule.manifest["fingerprint"])

    def _identity(self, samples: int) -> dict[str, Tensor]:
        """Return row (and user) of the samples that this process evaluated: the first ones of its order."""
        loader = self.datamodule.eval_loader(self.split)
        rows = np.concatenate([_numbers(one) for one in loader.order.batches()])[:samples]
        if isinstance(self.datamodule, ImpressionDataModule):
            return {"row": torch.from_numpy(rows)}
        assert isinstance(loader, SequenceLoader)
        row_B = np.array(loader.instances.row[rows], dtype=np.int64)
        return {"row": torch.from_numpy(row_B), "user": torch.from_numpy(loader.log.user[row_B].astype(np.int64))}


def score_file(config: Mapping[str, Any], directory: Path, datamodule: DataModule) -> ScoreFile | None:
    """Return the file of the test scores of a training; ``None`` unless ``save_scores``."""
    if not config.get("save_scores"):  # configs of older checkpoints lack it
        return None
    return ScoreFile(directory / scores_name("test"), datamodule, "test")


def _numbers(rows: slice | AnyArray) -> Int64Array:
    return np.arange(rows.start, rows.stop) if isinstance(rows, slice) else np.asarray(rows, dtype=np.int64)


def _task_scores(file: ScoreFile, metrics: MultiTaskMetrics, columns: dict[str, AnyArray]) -> TaskScores:
    return TaskScores(
        file.fingerprint,
        file.split,
        columns["row"],
        tasks=metrics.tasks,
        regression=tuple(task for task in metrics.tasks if task in metrics.regression),
        scenarios=metrics.scenarios,
        prob_BT=columns["prob"],
        labels_BT=columns["labels"],
        group_B=columns.get("group"),
        scenario_B=columns.get("scenario"),
        mask_BT=columns.get("mask"),
        weight_B=columns.get("weight"),
    )

"""Saved scores of the samples of a split (``save_scores=true``): one compressed file per checkpoint.

Two runs are compared sample by sample only if their samples are the same: same prepared dataset, rows, groups,
scenarios and weights (``fingerprint``), and per task the same labels.

Legend: B samples, T tasks.
"""

from __future__ import annotations

import hashlib
import json
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np

from stemlab.array_types import AnyArray, BoolArray, Float32Array, Float64Array, Int64Array
from stemlab.data.io.output_file import complete_file, write_errors
from stemlab.errors import StemlabError
from stemlab.reporting.record import RECORD

FORMAT = 1
_META = "meta"  # array of the file with JSON


def scores_name(split: str, checkpoint: str = "best") -> str:
    """Return the name of the file of a split (train, valid, test) and a checkpoint in the run directory."""
    return f"{split}_scores_of_{checkpoint}.npz"


@dataclass(frozen=True)
class SampleScores:
    """Samples of a split, in the order of the prepared dataset.

    Attributes:
        dataset_fingerprint: fingerprint of the prepared dataset.
        split: train, valid or test.
        row_B: (B,) int64 row of each sample: of the split, or in the interaction log of a sequence dataset.
    """

    dataset_fingerprint: str
    split: str
    row_B: Int64Array

    def __len__(self) -> int:
        return len(self.row_B)

    @property
    def fingerprint(self) -> str:
        """16 hexadecimal digits, equal for equal samples, whatever was trained on them."""
        digest = hashlib.sha256(f"{self.dataset_fingerprint}/{self.split}".encode())
        for name in self._identity():
            column = getattr(self, name)
            if column is not None:
                digest.update(name.encode() + np.ascontiguousarray(column).tobytes())
        return digest.hexdigest()[:16]

    def _identity(self) -> tuple[str, ...]:
        """Return the columns that make two samples the same."""
        return ("row_B",)


@dataclass(frozen=True)
class TaskScores(SampleScores):
    """Scores of the tasks of a multi-task run.

    Attributes:
        tasks: trained tasks, in the order of the columns.
        regression: tasks whose scores are values in the unit of the label; all others are probabilities.
        scenarios: names of the scenario ids; empty without scenarios.
        prob_BT: (B, T) float32 probabilities or values.
        labels_BT: (B, T) int8, or float32 with regression tasks.
        group_B: (B,) int64 original keys of the groups of gAUC (users), or ``None``.
        scenario_B: (B,) int32 scenario ids, or ``None``.
        mask_BT: (B, T) int8, 1 where a label counts, or ``None``: all count.
        weight_B: (B,) float32 sample weights, or ``None``: all are 1.
    """

    tasks: tuple[str, ...]
    regression: tuple[str, ...]
    scenarios: tuple[str, ...]
    prob_BT: Float32Array
    labels_BT: AnyArray
    group_B: Int64Array | None = None
    scenario_B: AnyArray | None = None
    mask_BT: AnyArray | None = None
    weight_B: Float32Array | None = None

    def _identity(self) -> tuple[str, ...]:
        return ("row_B", "group_B", "scenario_B", "weight_B")

    def counts(self, task: str, scenario: str | None = None) -> BoolArray:
        """Return which samples count for a task (and scenario), (B,)."""
        valid_B: BoolArray = np.ones(len(self), dtype=np.bool_)
        if self.mask_BT is not None:
            valid_B &= self.mask_BT[:, self.tasks.index(task)] > 0
        if scenario is not None and self.scenario_B is not None:
            valid_B &= self.scenario_B == self.scenarios.index(scenario)
        return valid_B

    def with_tasks(self, other: TaskScores, tasks: Sequence[str]) -> TaskScores:
        """Return these scores with those of some tasks from another evaluation of the same samples."""
        chosen_T = np.isin(self.tasks, tasks)
        return replace(self, prob_BT=np.where(chosen_T, other.prob_BT, self.prob_BT))

    def prob(self, task: str) -> Float32Array:
        """Return the scores of a task, (B,)."""
        return np.ascontiguousarray(self.prob_BT[:, self.tasks.index(task)])

    def labels(self, task: str) -> AnyArray:
        """Return the labels of a task, (B,)."""
        return np.ascontiguousarray(self.labels_BT[:, self.tasks.index(task)])


@dataclass(frozen=True)
class RankScores(SampleScores):
    """Ranks of the targets of a sequential run; HR@k, NDCG@k and MRR follow from them.

    Attributes:
        user_B: (B,) int64 user of each sample, 1 to U.
        rank_B: (B,) float64 rank of the target among its candidates, 1 is best.
    """

    user_B: Int64Array
    rank_B: Float64Array

    def _identity(self) -> tuple[str, ...]:
        return ("row_B", "user_B")


_KINDS: Mapping[str, Any] = {"tasks": TaskScores, "ranks": RankScores}


def save_scores(path: Path, scores: SampleScores) -> None:
    """Write scores atomically and compressed.

    Raises:
        StemlabError: the file cannot be written; nothing is left of it.
    """
    values = {one.name: getattr(scores, one.name) for one in fields(scores)}
    arrays = {name: value for name, value in values.items() if isinstance(value, np.ndarray)}
    kind = next(name for name, cls in _KINDS.items() if isinstance(scores, cls))
    plain = {name: value for name, value in values.items() if name not in arrays and value is not None}
    meta = json.dumps({"format": FORMAT, "kind": kind, "fingerprint": scores.fingerprint, **plain})
    with complete_file(path) as part, write_errors(path), part.open("wb") as file:
        np.savez_compressed(file, allow_pickle=False, **{_META: np.array(meta)}, **arrays)


def load_scores(path: Path | str) -> TaskScores | RankScores:
    """Return the saved scores of a run.

    Args:
        path: a run directory or its ``record.json`` (test scores of the best checkpoint), a compact copy of a record
            (the file beside it with the ending ``.npz``), or a file of scores.

    Raises:
        StemlabError: the run has no scores, or the file is damaged.
    """
    file = scores_path(Path(path))
    if not file.is_file():
        raise StemlabError(
            f"there are no saved test scores {file}: train with save_scores=true, or run python -m stemlab.evaluate "
            "ckpt=<run>/checkpoints/best.ckpt save_scores=true."
        )
    try:
        with np.load(file, allow_pickle=False) as arrays:
            meta: dict[str, Any] = json.loads(str(arrays[_META]))
            if meta.pop("format") != FORMAT:
                raise ValueError("unknown format")
            kind, fingerprint = _KINDS[meta.pop("kind")], meta.pop("fingerprint")
            plain = {name: tuple(value) if isinstance(value, list) else value for name, value in meta.items()}
            scores: Any = kind(**plain, **{name: arrays[name] for name in arrays.files if name != _META})
            if scores.fingerprint != fingerprint:
                raise ValueError("its samples do not fit its fingerprint")
    except (EOFError, KeyError, OSError, TypeError, ValueError, zipfile.BadZipFile, zlib.error) as error:
        raise StemlabError(f"{file} is not a file of saved scores ({' '.join(str(error).split())}).") from None
    return scores  # type: ignore[no-any-return]


def scores_path(path: Path) -> Path:
    """Return the file of the test scores that belongs to a run directory, a record, or a compact copy of one."""
    if path.is_dir():
        return path / scores_name("test")
    if path.name == RECORD:
        return path.parent / scores_name("test")
    return path.with_suffix(".npz")

"""Labels of the rows of a chunk, and their statistics per split for the manifest.

Legend: B rows of a chunk, T tasks, V regression tasks.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from stemlab.array_types import AnyArray, Int8Array
from stemlab.data.prepare.preparation_settings import PreparationSettings
from stemlab.data.prepare.split import SPLITS
from stemlab.data.target_columns import mask_of, weight_column
from stemlab.errors import StemlabError


def binary_labels(chunk: Mapping[str, AnyArray], config: PreparationSettings) -> Int8Array:
    """Return the binary labels of a chunk, (B, T) int8; 0 for regression tasks."""
    regression = config.regression_tasks
    rows = len(next(iter(chunk.values())))
    columns = [np.zeros(rows, np.int8) if name in regression else chunk[name].astype(np.int8) for name in config.tasks]
    return np.stack(columns, axis=1)


def target_values(chunk: Mapping[str, AnyArray], config: PreparationSettings) -> dict[str, AnyArray]:
    """Return the columns of ``stemlab.data.target_columns`` of a chunk: those that the dataset has."""
    found: dict[str, AnyArray] = {}
    if config.regression_tasks:
        values_BV = np.stack([chunk[name] for name in config.regression_tasks], axis=1)
        found["values"] = np.nan_to_num(values_BV, nan=0.0)
    conditional = {label.name for label in config.labels if label.given is not None}
    if conditional:
        rows = len(next(iter(chunk.values())))
        ones = np.ones(rows, np.int8)
        masks = [chunk[mask_of(name)].astype(np.int8) if name in conditional else ones for name in config.tasks]
        found["mask"] = np.stack(masks, axis=1)
    if config.weight is not None:
        found["weight"] = chunk[config.weight]
    return found


class LabelStatistics:
    """Counts of samples and moments of labels per split, for datasets with ``PreparationSettings.labels`` or weights.

    Args:
        config: settings of the preparation.
    """

    def __init__(self, config: PreparationSettings) -> None:
        self._config = config
        self._tasks = {label.name: config.tasks.index(label.name) for label in config.labels}
        shape = (len(SPLITS), len(self._tasks))
        self._samples, self._sums = np.zeros(shape, np.int64), np.zeros(shape)
        self._low, self._high = np.full(shape, np.inf), np.full(shape, -np.inf)
        self._weight_sums = np.zeros(len(SPLITS))

    def add(self, split: int, rows: int, targets: Mapping[str, AnyArray]) -> None:
        """Add rows of a split.

        Args:
            split: code of the split.
            rows: their number.
            targets: result of ``target_values`` for them.
        """
        for column, (name, task) in enumerate(self._tasks.items()):
            counted = targets["mask"][:, task] > 0 if "mask" in targets else np.ones(rows, bool)
            self._samples[split, column] += int(counted.sum())
            if name in self._config.regression_tasks and counted.any():
                values = targets["values"][:, self._config.regression_tasks.index(name)][counted].astype(np.float64)
                self._sums[split, column] += values.sum()
                self._low[split, column] = min(self._low[split, column], values.min())
                self._high[split, column] = max(self._high[split, column], values.max())
        if "weight" in targets:
            self._weight_sums[split] += targets["weight"].sum(dtype=np.float64)

    def check(self) -> None:
        """Raise StemlabError for a conditional task without training samples, and for training weights of sum 0."""
        for label, samples in zip(self._config.labels, self._samples[0], strict=True):
            if not samples:
                raise StemlabError(
                    f"task {label.name!r} has no training row with {label.given} = 1: remove it from dataset.tasks, or "
                    "change dataset.split."
                )
        if self._config.weight is not None and not self._weight_sums[0]:
            raise StemlabError(
                f"dataset.weight={weight_column(self._config.weight)} is 0 in all training rows: nothing would be "
                "trained; name another column."
            )

    def entries(self) -> dict[str, Any]:
        """Return the entries of the manifest: ``labels`` and ``weight``, if the dataset has them."""
        entries: dict[str, Any] = {}
        if self._config.labels:
            labels = enumerate(self._config.labels)
            entries["labels"] = {label.name: self._entry(label.kind, label.given, column) for column, label in labels}
        if self._config.weight is not None:
            sums = self._by_split(self._weight_sums)
            entries["weight"] = {"column": weight_column(self._config.weight), "sum": sums}
        return entries

    def _entry(self, kind: str, given: str | None, column: int) -> dict[str, Any]:
        entry: dict[str, Any] = {"kind": kind, "given": given, "samples": self._by_split(self._samples[:, column])}
        if kind == "binary":
            return entry
        counts = np.maximum(self._samples[:, column], 1)
        values = {"mean": self._sums[:, column] / counts, "min": self._low[:, column], "max": self._high[:, column]}
        return entry | {name: self._by_split(found) for name, found in values.items()}

    @staticmethod
    def _by_split(values: AnyArray | Sequence[Any]) -> dict[str, Any]:
        """Return split -> value; ``None`` for the minimum and maximum of no value."""
        plain = [value if np.isfinite(value) else None for value in np.asarray(values).tolist()]
        return dict(zip(SPLITS, plain, strict=True))

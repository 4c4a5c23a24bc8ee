"""Metrics of scored rows: a table with labels and the columns ``pred_<task>``.

Legend: B rows, T tasks.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor

from stemlab.array_types import Int64Array
from stemlab.config.cross_checks import effective_tasks
from stemlab.config.own_metrics import build_own_metrics
from stemlab.data.io.arrow import as_numpy
from stemlab.data.prepare.encode_table import as_floats, encode_scenarios
from stemlab.data.spec import DatasetSpec
from stemlab.data.table.cells import as_strings, read_labels, without_missing
from stemlab.errors import StemlabError, nearest
from stemlab.inference.score_rows import PREDICTION_PREFIX
from stemlab.metrics import MultiTaskMetrics
from stemlab.types import MISSING_GROUP

PREFIX = "data/"


def measure_rows(table: pa.Table, config: Mapping[str, Any], manifest: Mapping[str, Any]) -> dict[str, float]:
    """Return metric name -> value, with the prefix ``data/``; NaN where undefined.

    Args:
        table: rows with labels, predictions and, where the dataset has them, group and scenario.
        config: config of the run.
        manifest: manifest of its prepared dataset.

    Raises:
        StemlabError: the run predicts no binary labels of all rows, a label is missing or neither 0 nor 1.
    """
    dataset, spec = config["dataset"], DatasetSpec.from_dict(dict(manifest["spec"]))
    if dataset.get("labels") or dataset.get("weight"):
        raise StemlabError(
            "the metrics of other data need binary labels of all rows without weights: leave the data out to evaluate "
            "a split of the dataset."
        )
    tasks = effective_tasks(config)
    missing = list(dataset.get("missing", []))
    prob_BT = np.stack([as_floats(task, _column(table, f"{PREDICTION_PREFIX}{task}")) for task in tasks], axis=1)
    labels_BT = np.stack([_labels(task, _column(table, task), missing) for task in tasks], axis=1)
    metrics = MultiTaskMetrics(tasks, spec.scenarios, own=build_own_metrics(config))
    scenario = manifest.get("scenario_column") if spec.scenarios else None
    scenario_B = None
    if scenario is not None:
        scenario_B = torch.from_numpy(encode_scenarios(scenario, _column(table, scenario), spec.scenarios))
    group_B = None if spec.group is None else _groups(without_missing(_column(table, spec.group), missing))
    metrics.update(torch.from_numpy(prob_BT), torch.from_numpy(labels_BT.astype(np.int8)), None, group_B, scenario_B)
    return {f"{PREFIX}{name}": value for name, value in metrics.compute().items()}


def _column(table: pa.Table, name: str) -> Any:
    if name not in table.column_names:
        known = [column for column in table.column_names if not column.startswith(PREDICTION_PREFIX)]
        raise StemlabError(f"the data has no column {name!r} (it has: {', '.join(known)}).{nearest(name, known)}")
    return table[name].combine_chunks()


def _labels(task: str, column: Any, missing: list[str]) -> Int64Array:
    values, bad = read_labels(without_missing(column, missing))
    if bad.any():
        cell = column[int(np.argmax(bad))].as_py()
        raise StemlabError(f"column {task!r} of the data has {cell!r}, which is neither 0 nor 1.")
    found: Int64Array = values
    return found


def _groups(column: Any) -> Tensor:
    """Return a number per group, (B,) int64; rows without a group have ``MISSING_GROUP``."""
    codes = as_strings(column).dictionary_encode().indices
    return torch.from_numpy(as_numpy(codes.cast(pa.int64()).fill_null(MISSING_GROUP)).copy())

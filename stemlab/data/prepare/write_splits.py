"""Encodes the cached columns in chunks and writes the three splits.

Legend: B rows of a chunk, F fields, T tasks, N numerical columns, S scenarios (1 for a dataset without scenarios).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from stemlab.array_types import AnyArray, Float32Array, IndexArray, Int8Array, Int32Array, Int64Array, UInt8Array
from stemlab.data.io.prefetch import prefetch
from stemlab.data.io.progress import Advance
from stemlab.data.list_layout import list_widths
from stemlab.data.prepare.column_cache import ColumnCache
from stemlab.data.prepare.encode_labels import LabelStatistics, binary_labels, target_values
from stemlab.data.prepare.encode_lists import encode_lists
from stemlab.data.prepare.fit_vocabularies import FittedEncoders
from stemlab.data.prepare.preparation_settings import PreparationSettings
from stemlab.data.prepare.split import SPLITS, split_counts
from stemlab.data.store import StoreWriter
from stemlab.data.target_columns import some_rows, target_widths
from stemlab.errors import StemlabError
from stemlab.types import MISSING_GROUP


@dataclass(frozen=True, slots=True)
class SplitCounts:
    """Number of samples and of positive labels in each split.

    Attributes:
        rows: (3, S) int64 samples per split and scenario.
        positives: (3, S, T) int64 positive labels per split, scenario and task; 0 for regression tasks.
        labels: statistics of labels that are not binary labels of all samples, and of weights.
    """

    rows: Int64Array
    positives: Int64Array
    labels: LabelStatistics


def write_splits(
    directory: Path,
    cache: ColumnCache,
    codes: UInt8Array,
    fitted: FittedEncoders,
    config: PreparationSettings,
    advance: Advance,
    missing_group: int | None = None,
) -> SplitCounts:
    """Write ``train.arrow``, ``valid.arrow`` and ``test.arrow``; return the number of samples and positives.

    Args:
        directory: directory of the files.
        cache: raw columns.
        codes: (R,) uint8 split codes; rows with a code above 2 are dropped.
        fitted: encoders and scalers.
        config: settings of the preparation.
        advance: called with the number of rows of each written chunk.
        missing_group: raw value of the group column that means a missing cell; stored as ``MISSING_GROUP``.
    """
    scenarios = max(1, len(config.scenarios))
    counts = SplitCounts(
        np.zeros((len(SPLITS), scenarios), dtype=np.int64),
        np.zeros((len(SPLITS), scenarios, len(config.tasks)), dtype=np.int64),
        LabelStatistics(config),
    )
    with ExitStack() as stack:
        writers = [
            stack.enter_context(_writer(directory / f"{split}.arrow", rows, config))
            for split, rows in zip(SPLITS, split_counts(codes), strict=True)
        ]
        for codes_B, rows in prefetch(_encoded(cache, codes, fitted, config, missing_group)):
            for code, writer in enumerate(writers):
                part = rows.take(np.flatnonzero(codes_B == code))
                columns = part.ids_BF, part.labels_BT, part.group_B, part.dense_BN, part.scenario_B, part.targets
                writer.append(*columns)
                _count(part, counts.rows[code], counts.positives[code])
                counts.labels.add(code, len(part.ids_BF), part.targets)
            advance(len(codes_B))
    counts.labels.check()
    return counts


@dataclass(frozen=True, slots=True)
class _EncodedRows:
    ids_BF: Int32Array
    labels_BT: Int8Array
    group_B: Int64Array | None
    dense_BN: Float32Array | None
    scenario_B: Int32Array | None
    targets: dict[str, AnyArray] = field(default_factory=dict)

    def take(self, rows: IndexArray) -> _EncodedRows:
        def some(column: AnyArray | None) -> AnyArray | None:
            return None if column is None else column[rows]

        optional = some(self.group_B), some(self.dense_BN), some(self.scenario_B)
        return _EncodedRows(self.ids_BF[rows], self.labels_BT[rows], *optional, some_rows(self.targets, rows))


def _writer(path: Path, rows: int, config: PreparationSettings) -> StoreWriter:
    return StoreWriter(
        path,
        rows,
        config.fields,
        config.tasks,
        grouped=config.group is not None,
        numericals=[column.name for column in config.numericals],
        scenario=config.scenario is not None,
        targets={
            **target_widths(len(config.tasks), config.labels, config.weight is not None),
            **list_widths(config.lists),
        },
    )


def _count(part: _EncodedRows, rows_S: Int64Array, positives_ST: Int64Array) -> None:
    """Add the samples and positives of a chunk to the counts of its split."""
    scenario = np.zeros(len(part.ids_BF), dtype=np.int32) if part.scenario_B is None else part.scenario_B
    rows_S += np.bincount(scenario, minlength=len(rows_S))
    for task, label_B in enumerate(part.labels_BT.T):
        positives_ST[:, task] += np.bincount(scenario[label_B != 0], minlength=len(rows_S))


def _encoded(
    cache: ColumnCache,
    codes: UInt8Array,
    fitted: FittedEncoders,
    config: PreparationSettings,
    missing_group: int | None,
) -> Iterator[tuple[UInt8Array, _EncodedRows]]:
    """Yield split codes and encoded rows of each chunk."""
    row = 0
    for chunk, rows in zip(cache.chunks([*config.columns, *config.float_columns]), cache.rows, strict=True):
        ids_BF = np.empty((rows, len(config.fields)), dtype=np.int32)
        for column, name in enumerate(config.fields):
            ids_BF[:, column] = fitted.encoders[name](chunk[name])
            _check_range(f"encoded column {name!r}", ids_BF[:, column], fitted.sizes[name])
        dense_BN = np.empty((rows, len(fitted.scalers)), dtype=np.float32) if fitted.scalers else None
        if dense_BN is not None:
            for column, (name, scaler) in enumerate(fitted.scalers.items()):
                dense_BN[:, column] = scaler(chunk[name])
        for name in config.binary_tasks:
            _check_range(f"label {name!r}", chunk[name], 2)
        labels_BT, targets = binary_labels(chunk, config), target_values(chunk, config)
        targets |= encode_lists(chunk, fitted, config)
        group_B = chunk[config.group] if config.group else None
        if group_B is not None and missing_group is not None:
            group_B = np.where(group_B == missing_group, MISSING_GROUP, group_B)
        scenario_B = _scenarios(chunk[config.scenario], config) if config.scenario else None
        yield codes[row : row + rows], _EncodedRows(ids_BF, labels_BT, group_B, dense_BN, scenario_B, targets)
        row += rows


def _scenarios(ids_B: AnyArray, config: PreparationSettings) -> Int32Array:
    _check_range(f"scenario column {config.scenario!r}", ids_B, len(config.scenarios))
    return ids_B.astype(np.int32)


def _check_range(name: str, values_B: AnyArray, size: int) -> None:
    """Raise StemlabError if a value is not between 0 and ``size - 1``."""
    if len(values_B) and not 0 <= values_B.min() <= values_B.max() < size:
        wrong = values_B[(values_B < 0) | (values_B >= size)][0]
        raise StemlabError(f"{name} has the value {wrong}, outside 0 to {size - 1}: correct the raw files.")

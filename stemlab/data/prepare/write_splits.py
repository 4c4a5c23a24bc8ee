"""Spooled columns -> the three splits, encoded chunk by chunk.

Legend: B rows of a chunk, F fields, T tasks, N numerical columns, S scenarios (1 where rows have none).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from stemlab.array_types import AnyArray, Float32Array, Int8Array, Int32Array, Int64Array, UInt8Array
from stemlab.data.io.prefetch import prefetch
from stemlab.data.io.progress import Advance
from stemlab.data.prepare.column_cache import ColumnCache
from stemlab.data.prepare.fit_vocabularies import FittedEncoders
from stemlab.data.prepare.prepare_config import PrepareConfig
from stemlab.data.prepare.split import SPLITS, split_counts
from stemlab.data.store import StoreWriter


@dataclass(frozen=True, slots=True)
class SplitCounts:
    """What is in the splits.

    Attributes:
        rows: (3, S) rows of each split and scenario.
        positives: (3, S, T) their positives.
    """

    rows: Int64Array
    positives: Int64Array


def write_splits(
    directory: Path,
    spool: ColumnCache,
    codes: UInt8Array,
    encoders: FittedEncoders,
    config: PrepareConfig,
    advance: Advance,
) -> SplitCounts:
    """Write ``train.arrow``, ``valid.arrow`` and ``test.arrow`` and count what is in them."""
    places = max(1, len(config.scenarios))
    counts = SplitCounts(
        np.zeros((len(SPLITS), places), dtype=np.int64),
        np.zeros((len(SPLITS), places, len(config.tasks)), dtype=np.int64),
    )
    with ExitStack() as stack:
        writers = [
            stack.enter_context(_writer(directory / f"{split}.arrow", rows, config))
            for split, rows in zip(SPLITS, split_counts(codes), strict=True)
        ]
        for codes_B, rows in prefetch(_encoded(spool, codes, encoders, config)):
            for code, writer in enumerate(writers):
                part = rows.take(np.flatnonzero(codes_B == code))
                writer.append(part.ids_BF, part.labels_BT, part.group_B, part.dense_BN, part.scenario_B)
                _count(part, counts.rows[code], counts.positives[code])
            advance(len(codes_B))
    return counts


@dataclass(frozen=True, slots=True)
class _Rows:
    ids_BF: Int32Array
    labels_BT: Int8Array
    group_B: Int64Array | None
    dense_BN: Float32Array | None
    scenario_B: Int32Array | None

    def take(self, rows: NDArray[np.intp]) -> _Rows:
        def some(column: AnyArray | None) -> AnyArray | None:
            return None if column is None else column[rows]

        return _Rows(
            self.ids_BF[rows], self.labels_BT[rows], some(self.group_B), some(self.dense_BN), some(self.scenario_B)
        )


def _writer(path: Path, rows: int, config: PrepareConfig) -> StoreWriter:
    return StoreWriter(
        path,
        rows,
        config.fields,
        config.tasks,
        grouped=config.group is not None,
        numericals=[column.name for column in config.numericals],
        scenario=config.scenario is not None,
    )


def _count(part: _Rows, rows_S: Int64Array, positives_ST: Int64Array) -> None:
    """Add the rows and positives of some rows to those of a split."""
    scenario = np.zeros(len(part.ids_BF), dtype=np.int32) if part.scenario_B is None else part.scenario_B
    rows_S += np.bincount(scenario, minlength=len(rows_S))
    for task, label_B in enumerate(part.labels_BT.T):
        positives_ST[:, task] += np.bincount(scenario[label_B != 0], minlength=len(rows_S))


def _encoded(
    spool: ColumnCache, codes: UInt8Array, encoders: FittedEncoders, config: PrepareConfig
) -> Iterator[tuple[UInt8Array, _Rows]]:
    """Yield split codes and encoded rows chunk by chunk."""
    row = 0
    for chunk, rows in zip(spool.chunks([*config.columns, *encoders.scalers]), spool.rows, strict=True):
        ids_BF = np.empty((rows, len(config.fields)), dtype=np.int32)
        for place, name in enumerate(config.fields):
            ids_BF[:, place] = encoders.encoders[name](chunk[name])
        dense_BN = np.empty((rows, len(encoders.scalers)), dtype=np.float32) if encoders.scalers else None
        if dense_BN is not None:
            for place, (name, scaler) in enumerate(encoders.scalers.items()):
                dense_BN[:, place] = scaler(chunk[name])
        labels_BT = np.stack([chunk[name].astype(np.int8) for name in config.tasks], axis=1)
        group_B = chunk[config.group] if config.group else None
        scenario_B = _scenarios(chunk[config.scenario], config) if config.scenario else None
        yield codes[row : row + rows], _Rows(ids_BF, labels_BT, group_B, dense_BN, scenario_B)
        row += rows


def _scenarios(ids_B: AnyArray, config: PrepareConfig) -> Int32Array:
    if len(ids_B) and not 0 <= ids_B.min() <= ids_B.max() < len(config.scenarios):
        raise ValueError(f"column {config.scenario!r} has scenario ids outside 0 to {len(config.scenarios) - 1}")
    return ids_B.astype(np.int32)

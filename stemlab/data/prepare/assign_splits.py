"""Assignment of the cached rows to splits; rows removed by negative downsampling belong to none."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from stemlab.array_types import AnyArray, BoolArray, UInt8Array
from stemlab.data.prepare.column_cache import ColumnCache
from stemlab.data.prepare.negative_downsampling import draw_negatives
from stemlab.data.prepare.preparation_settings import PreparationSettings
from stemlab.data.prepare.split import date_codes, given_codes, random_codes, time_codes

DROPPED = 3
"""Code of rows that belong to no split."""


def assign_splits(cache: ColumnCache, config: PreparationSettings) -> UInt8Array:
    """Return the split code of every row, (R,) uint8: 0 train, 1 valid, 2 test, 3 removed by ``config.sampling``.

    Raises:
        StemlabError: a split would have no rows, or the split column has a value other than 0, 1 and 2.
    """
    if config.sampling is None:
        return _split_codes(_KeptRows(cache, None), config)
    scenarios = None if config.scenario is None else cache.column(config.scenario)
    kept = draw_negatives(cache.column(config.sampling.label), len(cache), config.sampling, scenarios)
    codes = np.full(len(cache), DROPPED, dtype=np.uint8)
    codes[kept] = _split_codes(_KeptRows(cache, kept), config)
    return codes


class _KeptRows:
    """View of the cached columns, restricted to the rows of a mask (``None``: all rows)."""

    def __init__(self, cache: ColumnCache, kept: BoolArray | None) -> None:
        self._cache, self._kept = cache, kept

    def __len__(self) -> int:
        return len(self._cache) if self._kept is None else int(np.count_nonzero(self._kept))

    def column(self, name: str) -> Iterator[AnyArray]:
        row = 0
        for chunk in self._cache.column(name):
            yield chunk if self._kept is None else chunk[self._kept[row : row + len(chunk)]]
            row += len(chunk)


def _split_codes(rows: _KeptRows, config: PreparationSettings) -> UInt8Array:
    rule, scenario = config.split, config.scenario
    if rule.rule == "given":
        scenarios = None if scenario is None else lambda: rows.column(scenario)
        return given_codes(len(rows), rule, lambda: rows.column(config.split_column), scenarios)
    if rule.rule == "dates":
        return date_codes(len(rows), rule, lambda: rows.column(config.time))
    if rule.rule == "time":
        return time_codes(len(rows), rule, lambda: rows.column(config.time))
    return random_codes(len(rows), rule)

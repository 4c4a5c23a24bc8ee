"""Which split each row of the spooled columns goes to; rows that are not drawn go to none."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from stemlab.array_types import AnyArray, BoolArray, UInt8Array
from stemlab.data.prepare.column_cache import ColumnCache
from stemlab.data.prepare.negative_downsampling import draw_negatives
from stemlab.data.prepare.prepare_config import PrepareConfig
from stemlab.data.prepare.split import date_codes, given_codes, random_codes, time_codes

DROPPED = 3
"""Code of rows that go to no split."""


def assign_splits(spool: ColumnCache, config: PrepareConfig) -> UInt8Array:
    """Return the code of every row: 0 train, 1 valid, 2 test, 3 left out by ``config.sampling``.

    Raises:
        StemlabError: a split has no rows, or the columns do not say what the rule needs.
    """
    if config.sampling is None:
        return _codes(_Kept(spool, None), config)
    scenarios = None if config.scenario is None else spool.column(config.scenario)
    kept = draw_negatives(spool.column(config.sampling.label), len(spool), config.sampling, scenarios)
    codes = np.full(len(spool), DROPPED, dtype=np.uint8)
    codes[kept] = _codes(_Kept(spool, kept), config)
    return codes


class _Kept:
    """The columns of the rows that are kept (``None``: all)."""

    def __init__(self, spool: ColumnCache, kept: BoolArray | None) -> None:
        self._spool, self._kept = spool, kept

    def __len__(self) -> int:
        return len(self._spool) if self._kept is None else int(np.count_nonzero(self._kept))

    def column(self, name: str) -> Iterator[AnyArray]:
        row = 0
        for chunk in self._spool.column(name):
            yield chunk if self._kept is None else chunk[self._kept[row : row + len(chunk)]]
            row += len(chunk)


def _codes(rows: _Kept, config: PrepareConfig) -> UInt8Array:
    rule, scenario = config.split, config.scenario
    if rule.rule == "given":
        scenarios = None if scenario is None else lambda: rows.column(scenario)
        return given_codes(len(rows), rule, lambda: rows.column(config.split_column), scenarios)
    if rule.rule == "dates":
        return date_codes(len(rows), rule, lambda: rows.column(config.time))
    if rule.rule == "time":
        return time_codes(len(rows), rule, lambda: rows.column(config.time))
    return random_codes(len(rows), rule)

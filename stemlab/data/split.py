"""Which row goes to which split: the published random rule, and a split along time.

Both give one uint8 code a row (0 train, 1 valid, 2 test) and keep the file's row order inside a split.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import ConfigDict
from pydantic.dataclasses import dataclass

from stemlab.config.types import Fraction, NonNegativeInt
from stemlab.errors import StemlabError

SPLITS = ("train", "valid", "test")
Codes = NDArray[np.uint8]
Ints = NDArray[np.int64]
_STEP = 1 << 20


@dataclass(frozen=True, kw_only=True, config=ConfigDict(extra="forbid"))
class SplitRule:
    """How rows are shared out.

    Attributes:
        rule: ``random`` takes the rows of scikit-learn's ``train_test_split`` applied twice (the published protocol);
            ``time`` takes the last rows for test and those before them for valid, ties in row order.
        test_size: share of all rows.
        valid_size: share of the rows that are left.
        seed: seed of both random draws.
    """

    rule: Literal["random", "time"] = "random"
    test_size: Fraction = 0.1
    valid_size: Fraction = 0.1
    seed: NonNegativeInt = 42


def split_sizes(rows: int, rule: SplitRule) -> tuple[int, int, int]:
    """Return the rows of train, valid and test (held-out parts are rounded up).

    Raises:
        StemlabError: a split would have no rows.
    """
    test = math.ceil(rows * rule.test_size)
    valid = math.ceil((rows - test) * rule.valid_size)
    train = rows - test - valid
    if min(train, valid, test) < 1:
        raise StemlabError(
            f"{rows} rows are too few to split (test_size {rule.test_size}, valid_size {rule.valid_size} leave {train} "
            f"train, {valid} valid and {test} test rows); give more rows or other dataset.split sizes."
        )
    return train, valid, test


def random_codes(rows: int, rule: SplitRule) -> Codes:
    """Return the codes of the published random split.

    Two draws as in ``train_test_split``: the second permutes the remainder in the order that the first left it in.
    Four bytes a row: shuffling a uint32 range gives the order of ``RandomState.permutation``.
    """
    _, valid, test = split_sizes(rows, rule)
    places = _permutation(rows - test, rule.seed)[:valid].copy()  # the second draw first: one whole range at a time
    order = _permutation(rows, rule.seed)
    codes = np.zeros(rows, dtype=np.uint8)
    _mark(codes, order[:test], 2)
    rest = order[test:]
    for start in range(0, valid, _STEP):
        codes[rest[places[start : start + _STEP]]] = 1
    return codes


def time_codes(rows: int, rule: SplitRule, times: Callable[[], Iterable[Ints]]) -> Codes:
    """Return the codes of the split along time.

    Args:
        rows: number of rows.
        rule: the sizes.
        times: gives the rows' times chunk by chunk; called twice.
    """
    train, valid, _ = split_sizes(rows, rule)
    starts = (train, train + valid)  # positions in time order at which valid and test begin
    edges, below = _edges(rows, starts, times())
    seen = dict.fromkeys(edges, 0)
    codes, row = np.empty(rows, dtype=np.uint8), 0
    for chunk in times():
        part = (chunk > edges[0]).astype(np.uint8) + (chunk > edges[1])
        for edge in set(edges):
            ties = np.flatnonzero(chunk == edge)
            place = below[edge] + seen[edge] + np.arange(len(ties))
            part[ties] = (place >= starts[0]).astype(np.uint8) + (place >= starts[1])
            seen[edge] += len(ties)
        codes[row : row + len(chunk)] = part
        row += len(chunk)
    return codes


def _permutation(rows: int, seed: int) -> NDArray[np.uint32]:
    order = np.arange(rows, dtype=np.uint32)
    np.random.RandomState(seed).shuffle(order)
    return order


def _mark(codes: Codes, rows: NDArray[np.uint32], code: int) -> None:
    for start in range(0, len(rows), _STEP):  # an index is widened to eight bytes: in steps
        codes[rows[start : start + _STEP]] = code


def _edges(rows: int, starts: tuple[int, int], chunks: Iterable[Ints]) -> tuple[tuple[int, int], dict[int, int]]:
    """Return the times at the positions ``starts`` of the time order, and how many rows are earlier than each."""
    every, row = np.empty(rows, dtype=np.int64), 0
    for chunk in chunks:
        every[row : row + len(chunk)] = chunk
        row += len(chunk)
    every.partition(starts)
    edges = (int(every[starts[0]]), int(every[starts[1]]))
    return edges, {edge: sum(int((part < edge).sum()) for part in _pieces(every)) for edge in edges}


def _pieces(values: Ints) -> Iterable[Ints]:
    return (values[start : start + _STEP] for start in range(0, len(values), _STEP))

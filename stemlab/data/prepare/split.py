"""Split rules: random (as in scikit-learn), by time, by dates, or read from a column.

Each rule returns one uint8 code per row (0 train, 1 valid, 2 test). Rows keep their file order within a split.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Literal

import numpy as np
from pydantic import ConfigDict
from pydantic.dataclasses import dataclass

from stemlab.array_types import IndexArray, Int64Array, UInt8Array, UInt32Array
from stemlab.data.prepare.dtypes import to_small_codes
from stemlab.errors import StemlabError
from stemlab.types import Fraction, NonNegativeInt

SPLITS = ("train", "valid", "test")
_STEP = 1 << 20


@dataclass(frozen=True, kw_only=True, config=ConfigDict(extra="forbid"))
class SplitRule:
    """Rule that assigns rows to train, valid and test.

    Attributes:
        rule: ``random`` applies scikit-learn's ``train_test_split`` twice (as in STEM's released code);
            ``time`` takes the latest rows for test and the ones before them for valid, ties in row order;
            ``dates`` takes rows with time >= ``test_from`` for test and time >= ``valid_from`` for valid;
            ``given`` reads the split from a column; if it has no valid rows, a part of train becomes valid.
        test_size: fraction of all rows (``random``, ``time``).
        valid_size: fraction of the rows that are not test (``random``, ``time``), or of the train rows of each scenario
            (``given``).
        seed: seed of the random draws.
        carve: train rows that become valid under ``given``: the ``last`` of each scenario in file order, or ``random``.
        valid_from: first time of valid, in the unit of the time column (``dates``).
        test_from: first time of test (``dates``).
    """

    rule: Literal["random", "time", "given", "dates"] = "random"
    test_size: Fraction = 0.1
    valid_size: Fraction = 0.1
    seed: NonNegativeInt = 42
    carve: Literal["last", "random"] = "last"
    valid_from: int | None = None
    test_from: int | None = None

    def __post_init__(self) -> None:
        """Raise StemlabError if the rule ``dates`` has no valid_from < test_from."""
        if self.rule == "dates" and (
            self.valid_from is None or self.test_from is None or self.valid_from >= self.test_from
        ):
            raise StemlabError(
                "dataset.split.rule=dates needs dataset.split.valid_from less than dataset.split.test_from, in the "
                f"unit of the time column (they are {_yaml(self.valid_from)} and {_yaml(self.test_from)})."
            )


def split_sizes(rows: int, rule: SplitRule) -> tuple[int, int, int]:
    """Return the number of train, valid and test rows (test and valid are rounded up).

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


def random_codes(rows: int, rule: SplitRule) -> UInt8Array:
    """Return the split codes of two nested calls of scikit-learn's ``train_test_split``.

    The second call permutes the remaining rows in the order that the first permutation gives them. Memory is four bytes
    per row: shuffling a uint32 range gives the same order as ``RandomState.permutation``.

    Args:
        rows: number of rows.
        rule: sizes and seed.

    Returns:
        (rows,) uint8 codes.

    Raises:
        StemlabError: a split would have no rows.
    """
    _, valid, test = split_sizes(rows, rule)
    # The second permutation comes first, so that only one full-size permutation is in memory at a time.
    positions = _permutation(rows - test, rule.seed)[:valid].copy()
    order = _permutation(rows, rule.seed)
    codes = np.zeros(rows, dtype=np.uint8)
    _mark(codes, order[:test], 2)
    rest = order[test:]
    for start in range(0, valid, _STEP):
        codes[rest[positions[start : start + _STEP]]] = 1
    return codes


def time_codes(rows: int, rule: SplitRule, times: Callable[[], Iterable[Int64Array]]) -> UInt8Array:
    """Return the split codes by time: the earliest rows are train, the latest are test.

    Args:
        rows: number of rows.
        rule: the sizes.
        times: returns the time column in chunks; called twice.

    Returns:
        (rows,) uint8 codes.

    Raises:
        StemlabError: a split would have no rows.
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
            position = below[edge] + seen[edge] + np.arange(len(ties))
            part[ties] = (position >= starts[0]).astype(np.uint8) + (position >= starts[1])
            seen[edge] += len(ties)
        codes[row : row + len(chunk)] = part
        row += len(chunk)
    return codes


def date_codes(rows: int, rule: SplitRule, times: Callable[[], Iterable[Int64Array]]) -> UInt8Array:
    """Return the split codes by dates: train before ``valid_from``, test from ``test_from`` on.

    Args:
        rows: number of rows.
        rule: the dates.
        times: returns the time column in chunks; called a second time only for the error message.

    Returns:
        (rows,) uint8 codes.

    Raises:
        StemlabError: a split would have no rows; the message gives the range of the times.
    """
    valid_from, test_from = rule.valid_from, rule.test_from
    assert valid_from is not None  # checked in __post_init__
    assert test_from is not None
    codes, row = np.empty(rows, dtype=np.uint8), 0
    for chunk in times():
        part = (chunk >= valid_from).astype(np.uint8) + (chunk >= test_from)
        codes[row : row + len(chunk)] = part
        row += len(chunk)
    for split, count in zip(SPLITS, split_counts(codes), strict=True):
        if not count:
            spans = [(int(chunk.min()), int(chunk.max())) for chunk in times() if len(chunk)]
            raise StemlabError(
                f"dataset.split.valid_from={valid_from} and dataset.split.test_from={test_from} leave no "
                f"{split} rows: times range from {min(s[0] for s in spans)} to {max(s[1] for s in spans)}."
            )
    return codes


def given_codes(
    rows: int,
    rule: SplitRule,
    given: Callable[[], Iterable[Int64Array]],
    scenarios: Callable[[], Iterable[Int64Array]] | None = None,
) -> UInt8Array:
    """Return the split codes of a column; if it has no valid rows, move a part of train to valid.

    Args:
        rows: number of rows.
        rule: size and choice of the rows moved to valid.
        given: returns the split column in chunks: 0 train, 1 valid, 2 test.
        scenarios: returns the scenario ids (0 to 254) in chunks; each scenario gives the same fraction of its train
            rows. ``None``: one scenario.

    Returns:
        (rows,) uint8 codes.

    Raises:
        StemlabError: a value is none of 0, 1, 2, or a split has no rows.
    """
    codes = to_small_codes(given(), rows)
    if codes.max(initial=0) > 2:
        raise StemlabError("the split column has values other than 0 (train), 1 (valid) and 2 (test).")
    if split_counts(codes)[1] == 0:
        scenario = np.zeros(rows, dtype=np.uint8) if scenarios is None else to_small_codes(scenarios(), rows)
        for code in range(int(scenario.max(initial=0)) + 1):
            _carve(codes, np.flatnonzero((codes == 0) & (scenario == code)), rule)
    counts = split_counts(codes)
    if min(counts) < 1:
        found = ", ".join(f"{count} {split}" for split, count in zip(SPLITS, counts, strict=True))
        raise StemlabError(
            f"the given split has {found} rows: a split must not be empty; use another dataset.split.rule."
        )
    return codes


def split_counts(codes: UInt8Array) -> tuple[int, int, int]:
    """Return the number of train, valid and test rows; rows with a greater code are in no split."""
    counts = np.zeros(256, dtype=np.int64)
    for start in range(0, len(codes), _STEP):  # in steps, because bincount converts to int64
        counts += np.bincount(codes[start : start + _STEP], minlength=256)
    return int(counts[0]), int(counts[1]), int(counts[2])


def _carve(codes: UInt8Array, rows: IndexArray, rule: SplitRule) -> None:
    """Move some of these train rows to valid; at least one remains in train."""
    size = min(math.ceil(len(rows) * rule.valid_size), len(rows) - 1)
    if size > 0:
        random = rule.carve == "random"
        codes[rows[_permutation(len(rows), rule.seed)[:size]] if random else rows[-size:]] = 1


def _yaml(value: int | None) -> str:
    return "null" if value is None else str(value)


def _permutation(rows: int, seed: int) -> UInt32Array:
    order = np.arange(rows, dtype=np.uint32)
    np.random.RandomState(seed).shuffle(order)
    return order


def _mark(codes: UInt8Array, rows: UInt32Array, code: int) -> None:
    for start in range(0, len(rows), _STEP):  # in steps, because indexing converts to int64
        codes[rows[start : start + _STEP]] = code


def _edges(rows: int, starts: tuple[int, int], chunks: Iterable[Int64Array]) -> tuple[tuple[int, int], dict[int, int]]:
    """Return the times at the sorted positions ``starts``, and the number of earlier rows for each of them."""
    times, row = np.empty(rows, dtype=np.int64), 0
    for chunk in chunks:
        times[row : row + len(chunk)] = chunk
        row += len(chunk)
    times.partition(starts)
    edges = (int(times[starts[0]]), int(times[starts[1]]))
    return edges, {edge: sum(int((part < edge).sum()) for part in _blocks(times)) for edge in edges}


def _blocks(values: Int64Array) -> Iterable[Int64Array]:
    return (values[start : start + _STEP] for start in range(0, len(values), _STEP))

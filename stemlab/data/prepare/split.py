"""Which row goes to which split: the published random rule, splits along time and at dates, a split that is given.

All give one uint8 code a row (0 train, 1 valid, 2 test) and keep the file's row order inside a split.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import asdict
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import ConfigDict
from pydantic.dataclasses import dataclass

from stemlab.array_types import Int64Array, UInt8Array
from stemlab.data.prepare.dtypes import to_small_codes
from stemlab.errors import StemlabError
from stemlab.types import Fraction, NonNegativeInt

SPLITS = ("train", "valid", "test")
_STEP = 1 << 20


@dataclass(frozen=True, kw_only=True, config=ConfigDict(extra="forbid"))
class SplitRule:
    """How rows are shared out.

    Attributes:
        rule: ``random`` takes the rows of scikit-learn's ``train_test_split`` applied twice (the published protocol);
            ``time`` takes the last rows for test and those before them for valid, ties in row order;
            ``dates`` takes the rows from ``test_from`` on for test and those from ``valid_from`` on for valid;
            ``given`` takes the publisher's split; where it has no valid, a part of train becomes valid.
        test_size: share of all rows (``random``, ``time``).
        valid_size: share of the rows that are left (``random``, ``time``), or of the given train rows (``given``).
        seed: seed of the random draws.
        carve: which of the given train rows become valid: the ``last`` of every scenario in file order, or ``random``
            ones.
        valid_from: first time (as in the time column) of valid (``dates``).
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
        """Raise StemlabError where a split at dates lacks dates with something between them."""
        if self.rule == "dates" and (
            self.valid_from is None or self.test_from is None or self.valid_from >= self.test_from
        ):
            raise StemlabError(
                "dataset.split.rule=dates needs dataset.split.valid_from less than dataset.split.test_from, both times "
                f"as in the raw files (they are {_told(self.valid_from)} and {_told(self.test_from)})."
            )

    def settings(self) -> dict[str, Any]:
        """Return plain values; the settings that came last are left out while they have their default."""
        later = {"carve": "last", "valid_from": None, "test_from": None}
        return {name: value for name, value in asdict(self).items() if name not in later or value != later[name]}


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


def random_codes(rows: int, rule: SplitRule) -> UInt8Array:
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


def time_codes(rows: int, rule: SplitRule, times: Callable[[], Iterable[Int64Array]]) -> UInt8Array:
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


def date_codes(rows: int, rule: SplitRule, times: Callable[[], Iterable[Int64Array]]) -> UInt8Array:
    """Return the codes of the split at dates: train before ``valid_from``, test from ``test_from`` on.

    Args:
        rows: number of rows.
        rule: the dates.
        times: gives the rows' times chunk by chunk; called twice where a split has no rows.

    Raises:
        StemlabError: a split would have no rows; the sentence says which times there are.
    """
    valid_from, test_from = rule.valid_from, rule.test_from
    assert valid_from is not None  # __post_init__ saw to it
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
                f"{split} rows: the times go from {min(s[0] for s in spans)} to {max(s[1] for s in spans)}."
            )
    return codes


def given_codes(
    rows: int,
    rule: SplitRule,
    given: Callable[[], Iterable[Int64Array]],
    scenarios: Callable[[], Iterable[Int64Array]] | None = None,
) -> UInt8Array:
    """Return the codes that a column says; without validation rows in it, training rows become some.

    Args:
        rows: number of rows.
        rule: share and choice of those rows.
        given: gives the column chunk by chunk: 0 train, 1 valid, 2 test.
        scenarios: gives the rows' scenario ids (0 to 254): every scenario hands over its share.

    Raises:
        StemlabError: a value is none of 0, 1, 2, or a split has no rows.
    """
    codes = to_small_codes(given(), rows)
    if codes.max(initial=0) > 2:
        raise StemlabError("the column of the given split has values other than 0 (train), 1 (valid) and 2 (test).")
    if split_counts(codes)[1] == 0:
        scenario = np.zeros(rows, dtype=np.uint8) if scenarios is None else to_small_codes(scenarios(), rows)
        for place in range(int(scenario.max(initial=0)) + 1):
            _carve(codes, np.flatnonzero((codes == 0) & (scenario == place)), rule)
    counts = split_counts(codes)
    if min(counts) < 1:
        told = ", ".join(f"{count} {split}" for split, count in zip(SPLITS, counts, strict=True))
        raise StemlabError(f"the given split has {told} rows, and each must have some: use another dataset.split.rule.")
    return codes


def split_counts(codes: UInt8Array) -> tuple[int, int, int]:
    """Return the rows of train, valid and test; rows with a greater code are in none."""
    counts = np.zeros(256, dtype=np.int64)
    for start in range(0, len(codes), _STEP):  # bincount widens to eight bytes: in steps
        counts += np.bincount(codes[start : start + _STEP], minlength=256)
    return int(counts[0]), int(counts[1]), int(counts[2])


def _carve(codes: UInt8Array, rows: NDArray[np.intp], rule: SplitRule) -> None:
    """Make validation rows of some of these training rows; at least one stays."""
    size = min(math.ceil(len(rows) * rule.valid_size), len(rows) - 1)
    if size > 0:
        random = rule.carve == "random"
        codes[rows[_permutation(len(rows), rule.seed)[:size]] if random else rows[-size:]] = 1


def _told(value: int | None) -> str:
    return "null" if value is None else str(value)


def _permutation(rows: int, seed: int) -> NDArray[np.uint32]:
    order = np.arange(rows, dtype=np.uint32)
    np.random.RandomState(seed).shuffle(order)
    return order


def _mark(codes: UInt8Array, rows: NDArray[np.uint32], code: int) -> None:
    for start in range(0, len(rows), _STEP):  # an index is widened to eight bytes: in steps
        codes[rows[start : start + _STEP]] = code


def _edges(rows: int, starts: tuple[int, int], chunks: Iterable[Int64Array]) -> tuple[tuple[int, int], dict[int, int]]:
    """Return the times at the positions ``starts`` of the time order, and how many rows are earlier than each."""
    every, row = np.empty(rows, dtype=np.int64), 0
    for chunk in chunks:
        every[row : row + len(chunk)] = chunk
        row += len(chunk)
    every.partition(starts)
    edges = (int(every[starts[0]]), int(every[starts[1]]))
    return edges, {edge: sum(int((part < edge).sum()) for part in _pieces(every)) for edge in edges}


def _pieces(values: Int64Array) -> Iterable[Int64Array]:
    return (values[start : start + _STEP] for start in range(0, len(values), _STEP))

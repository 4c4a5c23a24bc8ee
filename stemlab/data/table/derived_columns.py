"""Columns of ``dataset.derived``: crosses of columns, logarithms and buckets of numbers, computed chunk by chunk."""

from __future__ import annotations

import json
import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import Annotated, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import ConfigDict, Field, model_validator
from pydantic.dataclasses import dataclass

from stemlab.array_types import BoolArray, Float64Array
from stemlab.data.prepare.quantile_buckets import bucket_names, bucket_numbers, rounded_limits
from stemlab.data.table import cells
from stemlab.errors import StemlabError, nearest

_BETWEEN, _ESCAPED = "&", ("\\", "&")  # between the values of a cross; marks that get a backslash inside a value
_NAMES = "rounded"  # of quantile buckets, for the fingerprint
KINDS = ("cross", "log1p", "buckets")
"""Kinds of derived columns."""


@dataclass(frozen=True, kw_only=True, config=ConfigDict(extra="forbid"))
class DerivedColumn:
    """A further column; exactly one of ``cross``, ``log1p`` and ``buckets`` is set.

    Attributes:
        cross: columns whose values together make a category.
        log1p: column whose numbers x become log(1 + x).
        buckets: column whose numbers become the category of their interval.
        edges: ascending limits of the buckets; a number at a limit belongs to the bucket above.
        quantiles: number of buckets with about as many training rows each, instead of ``edges``.
    """

    cross: tuple[str, ...] | None = None
    log1p: str | None = None
    buckets: str | None = None
    edges: tuple[float, ...] | None = None
    quantiles: Annotated[int, Field(ge=2, le=1000)] | None = None

    @model_validator(mode="after")
    def _check(self) -> DerivedColumn:
        given = [name for name in KINDS if getattr(self, name) is not None]
        if len(given) != 1:
            raise ValueError("exactly one of cross, log1p and buckets")
        if self.cross is not None and len(set(self.cross)) < 2:
            raise ValueError("a cross of two columns or more")
        limits = sum(limit is not None for limit in (self.edges, self.quantiles))
        if limits != (self.buckets is not None):
            raise ValueError("buckets with either edges, such as [18, 25, 35], or quantiles, such as 10")
        if self.edges is not None and not (
            self.edges and all(map(math.isfinite, self.edges)) and list(self.edges) == sorted(set(self.edges))
        ):
            raise ValueError("edges of ascending finite numbers, each once")
        return self

    @property
    def sources(self) -> tuple[str, ...]:
        """Columns that are read."""
        return self.cross or tuple(name for name in (self.log1p, self.buckets) if name is not None)


class DerivedColumns:
    """Adds the derived columns to the rows of a table.

    Args:
        columns: name of the new column -> how it is computed.
        missing: cells of a text file that mean a missing value.

    Attributes:
        used: names of the columns that are read, which alone are computed; None: all.
        edges: column of quantile buckets -> its limits; numbers of other such columns stay numbers.
    """

    def __init__(self, columns: Mapping[str, DerivedColumn], missing: Sequence[str]) -> None:
        self._columns, self._missing = dict(columns), tuple(missing)
        self.used: Collection[str] | None = None
        self.edges: Mapping[str, Sequence[float]] = {}

    def __bool__(self) -> bool:
        return bool(self._columns)

    @property
    def unused(self) -> tuple[str, ...]:
        """Columns that are not computed."""
        return tuple(name for name in self._columns if self.used is not None and name not in self.used)

    def _computed(self) -> Iterator[tuple[str, DerivedColumn]]:
        unused = self.unused
        yield from ((name, column) for name, column in self._columns.items() if name not in unused)

    @property
    def quantiles(self) -> dict[str, int]:
        """Column of quantile buckets -> number of its buckets."""
        return {name: one.quantiles for name, one in self._computed() if one.quantiles is not None}

    @property
    def code(self) -> str:
        """Text that identifies the columns, for the fingerprint of the prepared dataset; empty without columns."""
        columns = {name: asdict(column) for name, column in self._columns.items()}
        plain = {
            name: {key: value for key, value in column.items() if value is not None or key != "quantiles"}
            | ({"names": _NAMES} if column["quantiles"] is not None else {})
            for name, column in columns.items()
        }
        return json.dumps(plain, sort_keys=True) if self else ""

    def rules(self) -> tuple[dict[str, Any], ...]:
        """Return how the columns are computed, as plain values for encoders outside of stemlab."""
        found = []
        for name, column in self._computed():
            kind = next(kind for kind in KINDS if getattr(column, kind) is not None)
            edges = column.edges or self.edges.get(name)
            limits = {} if edges is None else {"edges": list(edges), "names": _names(column, edges)}
            found.append({"name": name, "kind": kind, "sources": list(column.sources), **limits})
        return tuple(found)

    def bad_cells(self, table: Any, names: Collection[str]) -> Iterator[tuple[str, BoolArray, str]]:
        """Yield source column, mask and problem of the cells of raw rows that ``log1p`` cannot read.

        Args:
            table: raw rows, whose columns may be missing.
            names: derived columns that are inputs.
        """
        for name, column in self._columns.items():
            source = column.log1p
            if source is not None and source in table.column_names and name in names:
                numbers, given = cells.read_float64(cells.without_missing(table[source], self._missing))
                yield source, _without_logarithm(numbers, given), f"not a number above -1, for {name!r}"

    def check_names(self, names: Sequence[str], path: Any) -> None:
        """Check the columns against those of the file.

        Raises:
            StemlabError: a source is missing, or a new column has the name of an old one.
        """
        for name, column in self._columns.items():
            if name in names:
                raise StemlabError(f"dataset.derived.{name}: {path} has a column of this name; choose another one.")
            for source in column.sources:
                if source not in names:
                    known = f"{path} has no column {source!r}.{nearest(source, list(names))}"
                    raise StemlabError(f"dataset.derived.{name}: {known}")

    def __call__(self, table: Any) -> Any:
        """Return the Arrow table with the derived columns.

        A cross is missing where one of its values is. A number that cannot be read becomes infinite under ``log1p``,
        which makes a bad row, as does a number of -1 or less; in a bucket it is a missing value.

        Raises:
            StemlabError: rows to score lack a column.
        """
        for name, column in self._computed():
            for source in column.sources:
                if source not in table.column_names:
                    raise StemlabError(f"the input has no column {source!r}, from which {name!r} is derived.")
            given = [cells.without_missing(table[source], self._missing) for source in column.sources]
            edges = column.edges or self.edges.get(name)
            made = _cross(given) if column.cross is not None else _transformed(given[0], column, edges)
            table = table.append_column(name, made)
        return table


def _cross(columns: Sequence[Any]) -> Any:
    coded = [(one.combine_chunks() if isinstance(one, pa.ChunkedArray) else one).dictionary_encode() for one in columns]
    texts = [_escaped(cells.tokens_of(one.dictionary)).take(one.indices) for one in coded]
    return pc.binary_join_element_wise(*texts, _BETWEEN)


def _escaped(tokens: Any) -> Any:
    """Return tokens in which the mark between the values of a cross cannot be mistaken."""
    for mark in _ESCAPED:
        tokens = pc.replace_substring(tokens, mark, f"\\{mark}")
    return tokens


def _without_logarithm(values: Float64Array, given: BoolArray) -> BoolArray:
    """Return the mask of cells that are not missing and not finite numbers above -1."""
    bad: BoolArray = given & ~(np.isfinite(values) & (values > -1))
    return bad


def _transformed(column: Any, how: DerivedColumn, edges: Sequence[float] | None) -> Any:
    values, given = cells.read_float64(column)
    if how.log1p is not None:
        bad = _without_logarithm(values, given)
        return pa.array(np.where(bad, np.inf, np.log1p(np.where(bad, 0.0, values))))
    if edges is None:
        return pa.array(values, mask=np.isnan(values))
    return pa.array(_names(how, edges)).take(pa.array(bucket_numbers(values, edges), mask=np.isnan(values)))


def _names(how: DerivedColumn, edges: Sequence[float]) -> list[str]:
    """Return the names of buckets; limits in the config are named as they are."""
    return bucket_names(edges if how.quantiles is None else rounded_limits(edges))

"""Side tables: CSV files with attributes of users or items, held in memory and joined to rows by id.

Categories are stored as codes: a column takes four bytes per id, plus the text of its distinct values.
Legend: K ids, R rows.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from stemlab.array_types import AnyArray, BoolArray, Float32Array, Int64Array
from stemlab.data.io.arrow import whole_floats_as_integers
from stemlab.data.io.csv_header import check_header
from stemlab.data.io.progress import Advance
from stemlab.data.table.cells import read_integers, read_numbers, read_token_codes
from stemlab.data.table.file import TableChunk, open_table
from stemlab.data.table.tokens import TokenCodes
from stemlab.errors import StemlabError


@dataclass(frozen=True, slots=True)
class SideTable:
    """Attributes of each id.

    Attributes:
        path: the file.
        key: name of the id column.
        keys: (K,) int64 ids in ascending order.
        columns: column name -> (K,) int32 codes of categories, or float32 numbers (NaN if missing).
        tokens: column name -> strings by code; code 0 is the empty string.
    """

    path: Path
    key: str
    keys: Int64Array
    columns: Mapping[str, AnyArray]
    tokens: Mapping[str, TokenCodes]

    def find(self, ids: Int64Array) -> tuple[Int64Array, BoolArray]:
        """Return the index of each id in ``keys``, and whether the id exists, both (R,)."""
        last = len(self.keys) - 1
        if self.keys[-1] - self.keys[0] == last:  # no gaps: no search
            index = (ids - self.keys[0]).clip(0, last)
        else:
            index = np.searchsorted(self.keys, ids).clip(max=last)
        return index, self.keys[index] == ids

    def take(self, index: Int64Array) -> dict[str, AnyArray]:
        """Return the columns at (R,) indices: int64 codes and float32 numbers."""
        rows = {name: values[index] for name, values in self.columns.items()}
        return {name: values.astype(np.int64) if name in self.tokens else values for name, values in rows.items()}


def read_side_table(
    path: Path, key: str, categories: Sequence[str], numbers: Sequence[str], advance: Advance
) -> SideTable:
    """Read the given columns of a side table.

    Args:
        path: CSV file with a header, plain or compressed.
        key: id column; integers without repetition.
        categories: columns of tokens: ``1.0`` is the token ``1``, an empty cell is missing.
        numbers: columns of numbers; an empty cell is missing.
        advance: called with the number of bytes read.

    Raises:
        StemlabError: a column is missing, or a cell is invalid.
    """
    table = open_table(path)
    wanted = check_header(path, table.names, [key, *categories, *numbers])
    codes = {name: TokenCodes() for name in categories}
    keys: list[Int64Array] = []
    parts: dict[str, list[AnyArray]] = {name: [] for name in wanted[1:]}
    for chunk in table.chunks(wanted, advance):
        for line, problem in chunk.malformed:
            raise StemlabError(f"{path}, line {line}: {problem}; correct the line.")
        keys.append(_integers(path, chunk, key))
        for name in categories:
            parts[name].append(read_token_codes(plain_tokens(chunk.columns[name]), codes[name])[0].astype(np.int32))
        for name in numbers:
            parts[name].append(_numbers(path, chunk, name))
    ids = np.concatenate(keys)
    order = np.argsort(ids, kind="stable")
    repeated = np.flatnonzero(ids[order][1:] == ids[order][:-1])
    if len(repeated):
        raise StemlabError(f"{path} has {key} {ids[order][repeated[0]]} twice; correct the file.")
    columns = {name: np.concatenate(values)[order] for name, values in parts.items()}
    return SideTable(path, key, ids[order], columns, codes)


def plain_tokens(column: Any) -> Any:
    """Return a text column, dictionary-encoded, with integral floats (1.0) written as integers (1)."""
    coded = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    coded = coded if pa.types.is_dictionary(coded.type) else coded.dictionary_encode()
    return pa.DictionaryArray.from_arrays(coded.indices, whole_floats_as_integers(coded.dictionary))


def _integers(path: Path, chunk: TableChunk, name: str) -> Int64Array:
    values, bad = read_integers(chunk.columns[name])
    _refuse_bad(path, chunk, name, bad, "an integer")
    return values


def _numbers(path: Path, chunk: TableChunk, name: str) -> Float32Array:
    column = chunk.columns[name]
    values, bad = read_numbers(pc.if_else(pc.equal(column, ""), pa.scalar(None, pa.string()), column))
    _refuse_bad(path, chunk, name, bad, "a number")
    return values


def _refuse_bad(path: Path, chunk: TableChunk, name: str, bad: BoolArray, what: str) -> None:
    """Raise StemlabError for the first bad cell."""
    for row in np.flatnonzero(bad).tolist():
        cell = chunk.columns[name][row].as_py()[:40]
        raise StemlabError(
            f"{path}, line {chunk.lines[row]}: column {name!r} is {cell!r}, not {what}; correct the line."
        )

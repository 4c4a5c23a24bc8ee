"""A csv file that says something about each id (users, videos), held in memory by column and joined to the rows.

Categories are kept as codes, so a column takes four bytes an id and the text of its distinct values.
Legend: K ids, R rows.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from stemlab.array_types import AnyArray, BoolArray, Float32Array, Int64Array
from stemlab.data.io.arrow import as_numpy
from stemlab.data.io.csv_header import check_header
from stemlab.data.io.progress import Advance
from stemlab.data.table.cells import read_numbers, read_token_codes
from stemlab.data.table.file import TableChunk, open_table
from stemlab.data.table.tokens import TokenCodes
from stemlab.errors import StemlabError

_INTEGER = re.compile(r"-?[0-9]{1,18}")


@dataclass(frozen=True, slots=True)
class SideTable:
    """What a file says about each id.

    Attributes:
        path: the file.
        key: name of the id column.
        keys: (K,) ids in ascending order.
        columns: column name -> (K,) int32 codes of categories or float32 numbers (NaN where missing).
        tokens: column name -> the strings that codes stand for; code 0 is the empty string.
    """

    path: Path
    key: str
    keys: Int64Array
    columns: Mapping[str, AnyArray]
    tokens: Mapping[str, TokenCodes]

    def find(self, ids: Int64Array) -> tuple[Int64Array, BoolArray]:
        """Return each id's place in ``keys`` and whether it is there, both (R,)."""
        last = len(self.keys) - 1
        if self.keys[-1] - self.keys[0] == last:  # no gaps: no search
            place = (ids - self.keys[0]).clip(0, last)
        else:
            place = np.searchsorted(self.keys, ids).clip(max=last)
        return place, self.keys[place] == ids

    def take(self, place: Int64Array) -> dict[str, AnyArray]:
        """Return the columns at (R,) places; codes as int64."""
        rows = {name: values[place] for name, values in self.columns.items()}
        return {name: values.astype(np.int64) if name in self.tokens else values for name, values in rows.items()}


def read_side_table(
    path: Path, key: str, categories: Sequence[str], numbers: Sequence[str], advance: Advance
) -> SideTable:
    """Read some columns of a side table.

    Args:
        path: csv file with a header, plain or compressed.
        key: its id column, integers, each once.
        categories: columns whose values are tokens: ``1.0`` is the token ``1``, an empty cell is missing.
        numbers: columns whose values are numbers; an empty cell is missing.
        advance: told the bytes consumed.

    Raises:
        StemlabError: a column or a value is wrong: file, line, column and what is wrong.
    """
    table = open_table(path)
    wanted = check_header(path, table.names, [key, *categories, *numbers])
    codes = {name: TokenCodes() for name in categories}
    keys: list[Int64Array] = []
    parts: dict[str, list[AnyArray]] = {name: [] for name in wanted[1:]}
    for piece in table.chunks(wanted, advance):
        for line, told in piece.malformed:
            raise StemlabError(f"{path}, line {line}: {told}; mend the line.")
        keys.append(_integers(path, piece, key))
        for name in categories:
            parts[name].append(read_token_codes(plain_tokens(piece.columns[name]), codes[name])[0].astype(np.int32))
        for name in numbers:
            parts[name].append(_numbers(path, piece, name))
    every = np.concatenate(keys)
    order = np.argsort(every, kind="stable")
    repeated = np.flatnonzero(every[order][1:] == every[order][:-1])
    if len(repeated):
        raise StemlabError(f"{path} has {key} {every[order][repeated[0]]} twice; mend the file.")
    columns = {name: np.concatenate(values)[order] for name, values in parts.items()}
    return SideTable(path, key, every[order], columns, codes)


def plain_tokens(column: Any) -> Any:
    """Return a text column, dictionary-encoded, with whole floats (1.0) written as integers (1)."""
    coded = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    coded = coded if pa.types.is_dictionary(coded.type) else coded.dictionary_encode()
    words = pc.replace_substring_regex(coded.dictionary, r"^(-?[0-9]+)\.0$", r"\1")
    return pa.DictionaryArray.from_arrays(coded.indices, words)


def _integers(path: Path, piece: TableChunk, name: str) -> Int64Array:
    try:
        return as_numpy(pc.cast(piece.columns[name], pa.int64()))
    except pa.ArrowInvalid:
        cells = zip(piece.lines.tolist(), piece.columns[name].to_pylist(), strict=True)
        line, cell = next((line, cell) for line, cell in cells if not _INTEGER.fullmatch(cell))
        raise _bad(path, line, name, cell, "an integer") from None


def _numbers(path: Path, piece: TableChunk, name: str) -> Float32Array:
    column = piece.columns[name]
    values, bad = read_numbers(pc.if_else(pc.equal(column, ""), pa.scalar(None, pa.string()), column))
    for place in np.flatnonzero(bad):
        raise _bad(path, int(piece.lines[place]), name, column[int(place)].as_py(), "a number")
    return values


def _bad(path: Path, line: int, name: str, cell: str, what: str) -> StemlabError:
    return StemlabError(f"{path}, line {line}: column {name!r} is {cell[:40]!r}, not {what}; mend the line.")

"""Comma-separated files with a header line, of which some columns of integers (and of numbers) are read."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path

from stemlab.data.io.csv_integers import IntegerReader, OnBadRow, ParsedRows
from stemlab.data.io.progress import Advance
from stemlab.data.io.text_blocks import TextBlock, read_blocks
from stemlab.errors import StemlabError, nearest

_BYTE_ORDER_MARK = b"\xef\xbb\xbf"


@dataclass(slots=True)
class HeaderCsvReader:
    """Reads chosen columns of integers and numbers, in whichever order the header names them.

    Attributes:
        columns: names of the columns to read.
        ranges: column -> allowed (least, greatest) value; those of columns that are not read are not looked at.
        missing: spellings of a missing value, which is returned as -1.
        on_bad_row: ``error`` raises, ``skip`` leaves bad rows out and counts them.
        numbers: those of the columns that are read as float32 numbers; an empty cell is missing (NaN).
        skipped: bad rows left out so far, of every file read.
    """

    columns: Sequence[str]
    ranges: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    missing: Sequence[str] = ()
    on_bad_row: OnBadRow = "error"
    numbers: Collection[str] = ()
    skipped: int = 0

    def read(self, path: Path, member: str, advance: Advance) -> Iterator[tuple[ParsedRows, IntegerReader]]:
        """Yield the rows of a file block by block, with the reader that refuses or counts further bad rows.

        Args:
            path: the file, plain, ``.gz`` or ``.zip``.
            member: its name inside an archive.
            advance: told the bytes consumed.

        Raises:
            StemlabError: a column is missing or named twice, or a row is bad: file, line, column and what is wrong.
        """
        header, blocks = split_header(path, member, advance)
        reader = IntegerReader(
            path,
            header,
            separator=b",",
            ranges={name: self.ranges[name] for name in self.columns if name in self.ranges},
            on_bad_row=self.on_bad_row,
            kept=check_header(path, header, self.columns),
            missing=self.missing,
            whole_floats=True,
            numbers=self.numbers,
        )
        before = self.skipped
        for rows in reader.parse(blocks):
            yield rows, reader
            self.skipped = before + reader.skipped
        self.skipped = before + reader.skipped


def split_header(path: Path, member: str, advance: Advance) -> tuple[list[str], Iterator[TextBlock]]:
    """Return the names in a file's first line and its other lines in blocks."""
    blocks = read_blocks(path, member, advance)
    first = next(blocks)
    line, _, rest = first.data.removeprefix(_BYTE_ORDER_MARK).partition(b"\n")
    names = [name.strip() for name in line.decode("utf-8", errors="replace").split(",")]
    return names, chain([TextBlock(rest, first.first_line + 1)] if rest else [], blocks)


def check_header(path: Path, header: Sequence[str], columns: Sequence[str]) -> list[str]:
    """Return ``columns`` if the header names each of them once.

    Raises:
        StemlabError: a column that the header does not name, or names twice.
    """
    for name in columns:
        if header.count(name) > 1:
            raise StemlabError(f"{path}, line 1: column {name!r} is named twice; mend the header.")
        if name not in header:
            shown = ", ".join(header)[:300]
            raise StemlabError(f"{path}, line 1: no column {name!r} (it has: {shown})." + nearest(name, tuple(header)))
    return list(columns)

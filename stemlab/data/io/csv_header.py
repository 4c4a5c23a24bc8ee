"""Reader of chosen integer and float columns of comma-separated files with a header line."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path

from stemlab.data.io.csv_integers import IntegerReader, OnBadRow, ParsedRows
from stemlab.data.io.progress import Advance
from stemlab.data.io.text_blocks import TextBlock, read_blocks, refuse_bare_returns
from stemlab.errors import StemlabError, nearest


@dataclass(slots=True)
class HeaderCsvReader:
    """Reader of chosen columns, in any order of the header.

    Attributes:
        columns: names of the columns to read.
        ranges: column -> allowed (smallest, largest) value; entries of other columns are ignored.
        missing: spellings of a missing value, which is returned as -1.
        on_bad_row: ``error`` raises at a bad row, ``skip`` drops and counts it.
        float_columns: columns that are read as float32; an empty cell is missing (NaN).
        skipped: number of bad rows dropped so far, in all files.
    """

    columns: Sequence[str]
    ranges: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    missing: Sequence[str] = ()
    on_bad_row: OnBadRow = "error"
    float_columns: Collection[str] = ()
    skipped: int = 0

    def read(self, path: Path, member: str, advance: Advance) -> Iterator[tuple[ParsedRows, IntegerReader]]:
        """Yield the rows of each block, with the parser that rejects or counts further bad rows.

        Args:
            path: the file, plain, ``.gz`` or ``.zip``.
            member: its name inside an archive.
            advance: called with the number of bytes read.

        Raises:
            StemlabError: a column is missing or named twice, or a row is bad.
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
            float_columns=self.float_columns,
        )
        before = self.skipped
        for rows in reader.parse(blocks):
            yield rows, reader
            self.skipped = before + reader.skipped
        self.skipped = before + reader.skipped


def split_header(path: Path, member: str, advance: Advance) -> tuple[list[str], Iterator[TextBlock]]:
    """Return the column names of the first line, and the other lines in blocks."""
    blocks = read_blocks(path, member, advance)
    first = next(blocks)
    line, _, rest = first.data.partition(b"\n")
    refuse_bare_returns(path, line, 1)
    names = [name.strip() for name in line.decode("utf-8", errors="replace").split(",")]
    return names, chain([TextBlock(rest, first.first_line + 1)] if rest else [], blocks)


def check_header(path: Path, header: Sequence[str], columns: Sequence[str]) -> list[str]:
    """Return ``columns`` after checking that the header names each of them once.

    Raises:
        StemlabError: the header does not name a column, or names it twice.
    """
    for name in columns:
        if header.count(name) > 1:
            raise StemlabError(f"{path}, line 1: column {name!r} is named twice; correct the header.")
        if name not in header:
            shown = ", ".join(header)[:300]
            raise StemlabError(f"{path}, line 1: no column {name!r} (it has: {shown})." + nearest(name, tuple(header)))
    return list(columns)

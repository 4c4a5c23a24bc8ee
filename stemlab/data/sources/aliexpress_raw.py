"""Reader of AliExpress's raw files: columns of several countries, continued after an interruption."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from stemlab.array_types import AnyArray
from stemlab.data.io.csv_header import HeaderCsvReader
from stemlab.data.io.csv_integers import IntegerReader, OnBadRow, ParsedRows
from stemlab.data.io.progress import Advance
from stemlab.data.io.text_blocks import read_blocks
from stemlab.data.sources.aliexpress_columns import (
    ALIEXPRESS_TASKS,
    COUNTRIES,
    ITEM_FILE,
    LABEL_COLUMN,
    NUMERICALS,
    SEARCH_COLUMN,
    USER_FILE,
)
from stemlab.data.sources.aliexpress_files import CountryFiles, TextFile
from stemlab.data.sources.aliexpress_join import PageJoin, RawColumns

SCENARIO, SPLIT = "scenario", "split"
_SPLIT_CODES = {"train": 0, "test": 2}
_RANGES = {SEARCH_COLUMN: (0, 1 << 60), LABEL_COLUMN: (0, 2), **dict.fromkeys(ALIEXPRESS_TASKS, (0, 1))}


class RawAliexpress:
    """Columns of the files of several countries, country after country, train before test.

    Args:
        countries: files per country; the column ``scenario`` holds the index of a row's country.
        columns: names of the input columns to read.
        scratch: folder for temporary files of the join.
        sample: whether the files are synthetic.
        on_bad_row: ``error`` raises at the first invalid row, ``skip`` skips and counts invalid rows.
    """

    tokens: Mapping[str, Sequence[str]] = {}

    def __init__(
        self,
        countries: Sequence[CountryFiles],
        columns: Sequence[str],
        scratch: Path,
        *,
        sample: bool,
        on_bad_row: OnBadRow,
    ) -> None:
        self._countries, self._scratch, self._on_bad_row = tuple(countries), scratch, on_bad_row
        self._columns = frozenset(columns)
        self._float_columns = self._columns.intersection(NUMERICALS)
        self.files: Sequence[Path] = tuple(dict.fromkeys(text.path for one in countries for text in one.texts))
        self.sample, self.skipped, self._empty_pages = sample, 0, 0
        self._parts = [(index, code) for index in range(len(self._countries)) for code in _SPLIT_CODES.values()]
        self._next = 0, 0

    @property
    def kind(self) -> str:
        """Name and version of the reader, and the file format of each country."""
        return f"aliexpress/1 {' '.join(f'{one.country}:{_format(one)}' for one in self._countries)}"

    @property
    def notes(self) -> Mapping[str, Any]:
        """File format of each country, and number of search pages without items."""
        return {
            "forms": {one.country: _format(one) for one in self._countries},
            "pages_without_items": self._empty_pages,
        }

    def chunks(self, advance: Advance) -> Iterator[Mapping[str, AnyArray]]:
        """Yield the columns block by block."""
        return (columns for columns, _ in self.chunks_with_state(advance))

    def chunks_with_state(self, advance: Advance) -> Iterator[tuple[Mapping[str, AnyArray], list[int]]]:
        """Yield the columns block by block, each with the position of the next block and the counts before it.

        A block is yielded after the next one is read: rows that are skipped behind the last block are counted, too.
        """
        held: Mapping[str, AnyArray] | None = None
        for part, block, columns in self._blocks(advance):
            if held is not None:
                yield held, [part, block, self.skipped, self._empty_pages]
            held = columns
        if held is not None:
            yield held, [len(self._parts), 0, self.skipped, self._empty_pages]

    def restore(self, states: Sequence[list[int]]) -> bool:
        """Continue after the blocks with these states: the files of finished parts are not read again."""
        part, block, self.skipped, self._empty_pages = states[-1] if states else (0, 0, 0, 0)
        self._next = part, block
        return True

    def _blocks(self, advance: Advance) -> Iterator[tuple[int, int, Mapping[str, AnyArray]]]:
        """Yield number of the part, number of the block in it, and columns, from the restored position on."""
        first_part, first_block = self._next
        for part, (country, code) in enumerate(self._parts):
            if part < first_part:
                continue
            files = self._countries[country]
            texts, read = (
                files.train if code == 0 else files.test,
                self._read_raw if files.raw else self._read_processed,
            )
            for block, columns in enumerate(read(texts, advance)):
                if part == first_part and block < first_block:
                    continue
                rows = len(columns[SEARCH_COLUMN])
                # search ids are unique within a country only
                search = columns[SEARCH_COLUMN] * len(COUNTRIES) + COUNTRIES.index(files.country)
                added = {SEARCH_COLUMN: search, SCENARIO: np.full(rows, country), SPLIT: np.full(rows, code)}
                yield part, block, columns | added

    def _read_raw(self, texts: Sequence[TextFile], advance: Advance) -> Iterator[RawColumns]:
        users, items = (
            IntegerReader(
                text.path / text.member if text.path.suffix == ".zip" else text.path,
                header,
                separator=b",",
                ranges={name: _RANGES[name] for name in header if name in _RANGES},
                on_bad_row=self._on_bad_row,
                kept=[name for name in header if name in self._columns or name in (SEARCH_COLUMN, LABEL_COLUMN)],
                float_columns=self._float_columns.intersection(header),
            )
            for text, header in zip(texts, (USER_FILE, ITEM_FILE), strict=True)
        )
        join = PageJoin(users, items, self._scratch)
        for columns in join.join(*(read_blocks(text.path, text.member, advance) for text in texts)):
            label = columns.pop(LABEL_COLUMN)
            yield columns | {"click": (label >= 1).astype(np.int64), "conversion": (label == 2).astype(np.int64)}
        self.skipped += users.skipped + items.skipped
        self._empty_pages += join.empty_pages

    def _read_processed(self, texts: Sequence[TextFile], advance: Advance) -> Iterator[RawColumns]:
        wanted = [SEARCH_COLUMN, *sorted(self._columns), *ALIEXPRESS_TASKS]
        (text,) = texts
        reader = HeaderCsvReader(wanted, _RANGES, (), self._on_bad_row, float_columns=self._float_columns)
        for rows, lines in reader.read(text.path, text.member, advance):
            yield _checked(rows, lines)
        self.skipped += reader.skipped


def _format(files: CountryFiles) -> str:
    return "raw" if files.raw else "processed"


def _checked(rows: ParsedRows, lines: IntegerReader) -> RawColumns:
    """Return the columns without the rows that have a purchase but no click."""
    invalid = rows.columns["conversion"] > rows.columns["click"]
    if not invalid.any():
        return rows.columns
    lines.refuse(int(rows.lines[invalid.argmax()]), "'conversion' is 1 but 'click' is 0")
    lines.skipped += int(np.count_nonzero(invalid)) - 1
    return {name: values[~invalid] for name, values in rows.columns.items()}

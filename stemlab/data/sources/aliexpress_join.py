"""Join of search pages (user file) and displayed items (item file) in bounded memory.

Rows have the order of MTReclib's join: pages as in the user file, items of a page as in the item file. Both files are
read once. Items are partitioned into temporary files by the position of their page, and each partition is sorted
separately. Only ids and line numbers of the pages stay in memory, 32 bytes per page.
Source: docs/methods/datasets.md#aliexpress-columns.

Legend: R rows, P pages.
"""

from __future__ import annotations

import shutil
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import numpy as np

from stemlab.array_types import AnyArray, BoolArray, IndexArray, Int64Array
from stemlab.data.io.csv_integers import IntegerReader, ParsedRows
from stemlab.data.io.text_blocks import TextBlock
from stemlab.data.prepare.atomic_directory import locked
from stemlab.data.sources.aliexpress_columns import SEARCH_COLUMN

RawColumns = dict[str, AnyArray]
_MAX_PARTITIONS = 256
_MIN_PAGES = 1 << 14  # per partition: about a hundred thousand items
_ROWS_PER_CHUNK = 1 << 16
_PAGE_INDEX = "page index"


@dataclass(slots=True)
class PageJoin:
    """Join of one user file with one item file.

    Attributes:
        users: reader of the user file; its columns include ``search_id``.
        items: reader of the item file; likewise.
        root: folder for temporary files.
        pages_per_partition: pages whose items are sorted together; ``None``: derived from the number of pages.
        empty_pages: number of pages without items, which give no row; set by ``join``.
    """

    users: IntegerReader
    items: IntegerReader
    root: Path
    pages_per_partition: int | None = None
    empty_pages: int = 0

    def join(self, user_blocks: Iterable[TextBlock], item_blocks: Iterable[TextBlock]) -> Iterator[RawColumns]:
        """Yield the joined columns in chunks, (R,) each.

        Raises:
            StemlabError: a line is invalid, a page occurs twice, or the page of an item is missing.
        """
        with scratch_folder(self.root) as folder, ExitStack() as stack:
            user_columns = [name for name in self.users.kept if name != SEARCH_COLUMN]
            user_records = _Records(user_columns, self.users.float_columns)
            item_records = _Records([_PAGE_INDEX, *self.items.kept], self.items.float_columns)
            users = stack.enter_context((folder / "users").open("w+b"))
            pages = self._read_users(user_blocks, users, user_records)
            step = self.pages_per_partition or max(_MIN_PAGES, -(-len(pages) // _MAX_PARTITIONS))
            parts = [
                stack.enter_context((folder / f"items{part}").open("w+b")) for part in range(-(-len(pages) // step))
            ]
            self._partition_items(item_blocks, parts, step, item_records, pages)
            for part, file in enumerate(parts):
                page_columns = user_records.read(users, part * step, step)
                yield from _join_sorted(page_columns, item_records.read(file), part * step)
                file.truncate(0)

    def _read_users(self, blocks: Iterable[TextBlock], file: IO[bytes], records: _Records) -> _Pages:
        ids: list[Int64Array] = []
        lines: list[Int64Array] = []
        for rows in self.users.parse(blocks):
            ids.append(rows.columns[SEARCH_COLUMN])
            lines.append(rows.lines)
            file.write(records.pack(rows.columns).data)
        pages = _Pages.of(np.concatenate(ids), np.concatenate(lines))
        repeated = pages.repeated()
        if len(repeated):
            first, again = pages.lines[repeated[0]]
            self.users.refuse(int(again), f"search id {pages.ids[repeated[0][0]]} repeats that of line {first}")
            self.users.skipped += len(repeated) - 1  # the first row of a page is kept
        return pages

    def _partition_items(
        self, blocks: Iterable[TextBlock], parts: Sequence[IO[bytes]], step: int, records: _Records, pages: _Pages
    ) -> None:
        has_items = np.zeros(len(pages), dtype=np.bool_)
        for rows in self.items.parse(blocks):
            page, known = pages.find(rows.columns[SEARCH_COLUMN])
            self._refuse_unknown_pages(rows, known)
            packed = records.pack({**rows.columns, _PAGE_INDEX: page})[known]
            has_items[page[known]] = True
            part = page[known] // step
            for one in np.unique(part):
                parts[one].write(packed[part == one].data)
        self.empty_pages = len(np.unique(pages.ids)) - int(np.count_nonzero(has_items))

    def _refuse_unknown_pages(self, rows: ParsedRows, known: BoolArray) -> None:
        unknown = np.flatnonzero(~known)
        if len(unknown):
            row = unknown[0]
            search = rows.columns[SEARCH_COLUMN][row]
            self.items.refuse(int(rows.lines[row]), f"search id {search} has no row in {self.users.path.name}")
            self.items.skipped += len(unknown) - 1


def _join_sorted(page_columns: RawColumns, items: RawColumns, first_page: int) -> Iterator[RawColumns]:
    """Yield the items sorted by page (stable) with the columns of their page."""
    page_index = items.pop(_PAGE_INDEX)
    order = np.argsort(page_index, kind="stable")
    for start in range(0, len(order), _ROWS_PER_CHUNK):
        rows = order[start : start + _ROWS_PER_CHUNK]
        page = page_index[rows] - first_page
        columns = {name: values[rows] for name, values in items.items()}
        yield columns | {name: values[page] for name, values in page_columns.items()}


@dataclass(frozen=True, slots=True)
class _Pages:
    """Pages of a user file.

    Attributes:
        ids: (P,) search ids in file order.
        lines: (P,) line numbers.
        order: (P,) indices that sort the ids (stable).
        sorted_ids: (P,) sorted ids.
    """

    ids: Int64Array
    lines: Int64Array
    order: Int64Array
    sorted_ids: Int64Array

    @classmethod
    def of(cls, ids: Int64Array, lines: Int64Array) -> _Pages:
        order = np.argsort(ids, kind="stable")
        return cls(ids, lines, order, ids[order])

    def __len__(self) -> int:
        return len(self.ids)

    def repeated(self) -> IndexArray:
        """Return the indices of repeated pages, (N, 2): the earlier row and the row that repeats it."""
        equal = np.flatnonzero(self.sorted_ids[1:] == self.sorted_ids[:-1])
        return np.stack([self.order[equal], self.order[equal + 1]], axis=1)

    def find(self, ids: Int64Array) -> tuple[Int64Array, BoolArray]:
        """Return each id's index in the file and the mask of ids that exist, both (R,)."""
        if not len(self):
            return np.zeros_like(ids), np.zeros(len(ids), dtype=np.bool_)
        index = np.searchsorted(self.sorted_ids, ids).clip(max=len(self) - 1)
        return self.order[index], self.sorted_ids[index] == ids


class _Records:
    """Row-wise records of columns in one file: int64 and float32."""

    def __init__(self, columns: Sequence[str], float_columns: Iterable[str]) -> None:
        known = frozenset(float_columns)
        self._ints = [name for name in columns if name not in known]
        self._floats = [name for name in columns if name in known]
        self._dtype = np.dtype([("ints", np.int64, (len(self._ints),)), ("floats", np.float32, (len(self._floats),))])

    def pack(self, columns: Mapping[str, AnyArray]) -> AnyArray:
        """Return (R,) records."""
        rows = len(next(iter(columns.values())))
        packed = np.empty(rows, dtype=self._dtype)
        for index, name in enumerate(self._ints):
            packed["ints"][:, index] = columns[name]
        for index, name in enumerate(self._floats):
            packed["floats"][:, index] = columns[name]
        return packed

    def read(self, file: IO[bytes], first: int = 0, rows: int = -1) -> RawColumns:
        """Return the columns of ``rows`` records (-1: all) of a file, starting at record ``first``."""
        file.flush()
        packed = np.fromfile(file.name, self._dtype, rows, offset=first * self._dtype.itemsize)
        ints = {name: packed["ints"][:, index] for index, name in enumerate(self._ints)}
        return ints | {name: packed["floats"][:, index] for index, name in enumerate(self._floats)}


@contextmanager
def scratch_folder(root: Path) -> Iterator[Path]:
    """Create a temporary folder and delete it at exit; if the process is killed, the next preparation deletes it."""
    root.mkdir(parents=True, exist_ok=True)
    name = f"join-{uuid.uuid4().hex[:12]}"
    lock, folder = root / f".{name}.lock", root / f".build-{name}"
    with locked(lock, "joining"):
        folder.mkdir()
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)
            lock.unlink(missing_ok=True)

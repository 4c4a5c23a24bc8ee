"""Search pages (users' file) and the items shown on them (items' file), joined on disk in bounded memory.

Rows come in the order of MTReclib's join: pages as in the users' file, the items of a page as in the items' file. Both
files are read once; items are dealt into files by the place of their page, and each of these is put in order alone.
Only a page's id and line stay in memory, 32 bytes a page.

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
from numpy.typing import NDArray

from stemlab.array_types import AnyArray, BoolArray, Int64Array
from stemlab.data.io.csv_integers import IntegerReader, ParsedRows
from stemlab.data.io.text_blocks import TextBlock
from stemlab.data.prepare.atomic_directory import locked
from stemlab.data.sources.aliexpress_columns import SEARCH_COLUMN

RawColumns = dict[str, AnyArray]
MOST_FILES = 256
LEAST_PAGES = 1 << 14  # of a file: about a hundred thousand items
ROWS_AT_ONCE = 1 << 16
_PLACE = "place"


@dataclass(slots=True)
class PageJoin:
    """Joins one users' file with one items' file.

    Attributes:
        users: reader of the users' file; what it keeps has the column ``search_id``.
        items: reader of the items' file; the same.
        root: folder in which the scratch files lie meanwhile.
        pages_a_file: pages whose items are put in order at once; ``None``: as many as suit the number of pages.
        empty_pages: pages without items, which give no row; known after ``join``.
    """

    users: IntegerReader
    items: IntegerReader
    root: Path
    pages_a_file: int | None = None
    empty_pages: int = 0

    def join(self, user_blocks: Iterable[TextBlock], item_blocks: Iterable[TextBlock]) -> Iterator[RawColumns]:
        """Yield the joined columns, (R,) each, in pieces.

        Raises:
            StemlabError: a bad line, a page that comes twice, an item whose page is missing.
        """
        with scratch_folder(self.root) as folder, ExitStack() as stack:
            user_records = _Records([name for name in self.users.kept if name != SEARCH_COLUMN], self.users.numbers)
            item_records = _Records([_PLACE, *self.items.kept], self.items.numbers)
            users = stack.enter_context((folder / "users").open("w+b"))
            pages = self._read_users(user_blocks, users, user_records)
            step = self.pages_a_file or max(LEAST_PAGES, -(-len(pages) // MOST_FILES))
            parts = [
                stack.enter_context((folder / f"items{part}").open("w+b")) for part in range(-(-len(pages) // step))
            ]
            self._deal_items(item_blocks, parts, step, item_records, pages)
            for part, file in enumerate(parts):
                of_pages = user_records.read(users, part * step, step)
                yield from _in_order(of_pages, item_records.read(file), part * step)
                file.truncate(0)

    def _read_users(self, blocks: Iterable[TextBlock], file: IO[bytes], records: _Records) -> _Pages:
        ids: list[Int64Array] = []
        lines: list[Int64Array] = []
        for rows in self.users.parse(blocks):
            ids.append(rows.columns[SEARCH_COLUMN])
            lines.append(rows.lines)
            file.write(records.pack(rows.columns).data)
        pages = _Pages.of(np.concatenate(ids), np.concatenate(lines))
        twice = pages.repeated()
        if len(twice):
            first, again = pages.lines[twice[0]]
            self.users.refuse(int(again), f"search id {pages.ids[twice[0][0]]} is that of line {first} already")
            self.users.skipped += len(twice) - 1  # the first row of a page stands
        return pages

    def _deal_items(
        self, blocks: Iterable[TextBlock], parts: Sequence[IO[bytes]], step: int, records: _Records, pages: _Pages
    ) -> None:
        shown = np.zeros(len(pages), dtype=np.bool_)
        for rows in self.items.parse(blocks):
            place, known = pages.find(rows.columns[SEARCH_COLUMN])
            self._refuse_strangers(rows, known)
            packed = records.pack({**rows.columns, _PLACE: place})[known]
            shown[place[known]] = True
            part = place[known] // step
            for one in np.unique(part):
                parts[one].write(packed[part == one].data)
        self.empty_pages = len(np.unique(pages.ids)) - int(np.count_nonzero(shown))

    def _refuse_strangers(self, rows: ParsedRows, known: BoolArray) -> None:
        strangers = np.flatnonzero(~known)
        if len(strangers):
            row = strangers[0]
            search = rows.columns[SEARCH_COLUMN][row]
            self.items.refuse(int(rows.lines[row]), f"search id {search} has no row in {self.users.path.name}")
            self.items.skipped += len(strangers) - 1


def _in_order(of_pages: RawColumns, items: RawColumns, first_page: int) -> Iterator[RawColumns]:
    """Yield the items by page, those of a page as they came, with the columns of their page."""
    place = items.pop(_PLACE)
    order = np.argsort(place, kind="stable")
    for start in range(0, len(order), ROWS_AT_ONCE):
        rows = order[start : start + ROWS_AT_ONCE]
        page = place[rows] - first_page
        columns = {name: values[rows] for name, values in items.items()}
        yield columns | {name: values[page] for name, values in of_pages.items()}


@dataclass(frozen=True, slots=True)
class _Pages:
    """The pages of a users' file.

    Attributes:
        ids: (P,) search ids in file order.
        lines: (P,) their lines.
        order: (P,) places in the order of ids, equal ones in file order.
        sorted_ids: (P,) ids in that order.
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

    def repeated(self) -> NDArray[np.intp]:
        """Return the places of pages that came before, (N, 2): the one before and the repetition."""
        again = np.flatnonzero(self.sorted_ids[1:] == self.sorted_ids[:-1])
        return np.stack([self.order[again], self.order[again + 1]], axis=1)

    def find(self, ids: Int64Array) -> tuple[Int64Array, BoolArray]:
        """Return each id's place in the file and whether it is there, both (R,)."""
        if not len(self):
            return np.zeros_like(ids), np.zeros(len(ids), dtype=np.bool_)
        at = np.searchsorted(self.sorted_ids, ids).clip(max=len(self) - 1)
        return self.order[at], self.sorted_ids[at] == ids


class _Records:
    """RawColumns as rows of one file: integers as int64, numbers as float32."""

    def __init__(self, columns: Sequence[str], numbers: Iterable[str]) -> None:
        known = frozenset(numbers)
        self._ints = [name for name in columns if name not in known]
        self._numbers = [name for name in columns if name in known]
        self._kind = np.dtype([("ints", np.int64, (len(self._ints),)), ("numbers", np.float32, (len(self._numbers),))])

    def pack(self, columns: Mapping[str, AnyArray]) -> AnyArray:
        """Return (R,) records."""
        rows = len(next(iter(columns.values())))
        packed = np.empty(rows, dtype=self._kind)
        for place, name in enumerate(self._ints):
            packed["ints"][:, place] = columns[name]
        for place, name in enumerate(self._numbers):
            packed["numbers"][:, place] = columns[name]
        return packed

    def read(self, file: IO[bytes], first: int = 0, rows: int = -1) -> RawColumns:
        """Return the columns of ``rows`` records (-1: all) of a file, from ``first`` on."""
        file.flush()
        packed = np.fromfile(file.name, self._kind, rows, offset=first * self._kind.itemsize)
        ints = {name: packed["ints"][:, place] for place, name in enumerate(self._ints)}
        return ints | {name: packed["numbers"][:, place] for place, name in enumerate(self._numbers)}


@contextmanager
def scratch_folder(root: Path) -> Iterator[Path]:
    """Make a folder that is deleted afterwards; if this process is killed, by the next preparation in ``root``."""
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

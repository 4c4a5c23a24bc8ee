"""KuaiRand's raw files: search for them, and join of the logs with the user and video tables.

Source: docs/methods/datasets.md#kuairand.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from stemlab.array_types import AnyArray, Int64Array
from stemlab.data.io.csv_header import HeaderCsvReader
from stemlab.data.io.csv_integers import IntegerReader, OnBadRow, ParsedRows
from stemlab.data.io.progress import Advance
from stemlab.data.prepare.preparation_settings import PreparationSettings
from stemlab.data.sample.kuairand import LOG_COLUMNS, USER_COLUMNS, VIDEO_COLUMNS, log_names, side_names
from stemlab.data.table.side_table import SideTable, read_side_table
from stemlab.errors import StemlabError

_FOLDERS = {"1k": "KuaiRand-1K", "pure": "KuaiRand-Pure", "27k": "KuaiRand-27K"}
KUAIRAND_LABELS = (
    *("is_click", "is_like", "long_view", "is_follow", "is_comment", "is_forward", "is_hate", "is_profile_enter"),
)
ID_COLUMNS = ("user_id", "video_id")
SCENARIO, SPLIT = "scenario", "split"
_RANGES = {**dict.fromkeys(KUAIRAND_LABELS, (0, 1)), **dict.fromkeys((*ID_COLUMNS, "tab"), (0, (1 << 63) - 1))}


@dataclass(frozen=True, slots=True)
class KuairandFiles:
    """Raw files of one version.

    Attributes:
        logs: logs whose rows are split by the split rule.
        random: random log, whose rows are the test split, or ``None``.
        users: user table.
        videos: video table.
    """

    logs: tuple[Path, ...]
    random: Path | None
    users: Path
    videos: Path


class RawKuairand:
    """Columns of the logs, joined with the user and video tables.

    Args:
        files: the raw files.
        settings: preparation settings, which determine the columns needed.
        tabs: tab of each scenario; rows of other tabs are dropped. Empty: all rows, without scenarios.
        dates: if the random log is the test split, the (first, last + 1) validation day of the other logs.
        sample: whether the files are synthetic.
        on_bad_row: ``error`` raises at the first invalid row, ``skip`` skips and counts invalid rows. Mistakes in
            the user and video tables are always errors.
    """

    def __init__(
        self,
        files: KuairandFiles,
        settings: PreparationSettings,
        tabs: Sequence[int],
        *,
        dates: tuple[int, int] | None,
        sample: bool,
        on_bad_row: OnBadRow,
    ) -> None:
        self._numbers = [column.name for column in settings.numericals]
        needed = [*settings.columns, *self._numbers]
        self._sides = [(files.users, USER_COLUMNS, ID_COLUMNS[0]), (files.videos, VIDEO_COLUMNS, ID_COLUMNS[1])]
        self._side_columns = [[name for name in header[1:] if name in needed] for _, header, _ in self._sides]
        read = [path for (path, _, _), names in zip(self._sides, self._side_columns, strict=True) if names]
        self._logs = [*files.logs, *([files.random] if files.random else [])]
        self.files: Sequence[Path] = (*self._logs, *read)
        self.sample, self.tokens = sample, dict[str, Sequence[str]]()
        self._random, self._tabs, self._dates = files.random, tuple(tabs), dates
        self.kind = "kuairand/1" if dates is None else f"kuairand/1, random log as test, valid {dates[0]} to {dates[1]}"
        own = [*ID_COLUMNS, *(name for name in LOG_COLUMNS if name in needed and name not in ID_COLUMNS)]
        extra = (["tab"] if tabs else []) + (["date"] if dates else [])
        self._reader = HeaderCsvReader(tuple(dict.fromkeys([*own, *extra])), _RANGES, (), on_bad_row)
        self._other_tabs = 0

    @property
    def skipped(self) -> int:
        """Number of invalid rows skipped so far."""
        return self._reader.skipped

    @property
    def notes(self) -> Mapping[str, Any]:
        """Number of rows of other tabs; complete when ``chunks`` is exhausted."""
        return {"rows_of_other_tabs": self._other_tabs}

    def chunks(self, advance: Advance) -> Iterator[Mapping[str, AnyArray]]:
        """Yield the joined columns block by block, log after log."""
        sides = [
            read_side_table(
                path,
                key,
                [name for name in names if name not in self._numbers],
                [name for name in names if name in self._numbers],
                advance,
            )
            for (path, _, key), names in zip(self._sides, self._side_columns, strict=True)
            if names
        ]
        self.tokens = {name: codes for side in sides for name, codes in side.tokens.items()}
        for path in self._logs:
            for rows, reader in self._reader.read(path, path.name.removesuffix(".gz"), advance):
                yield self._joined(rows, reader, sides, random=path == self._random)

    def _joined(
        self, rows: ParsedRows, reader: IntegerReader, sides: Sequence[SideTable], *, random: bool
    ) -> Mapping[str, AnyArray]:
        columns: dict[str, AnyArray] = dict(rows.columns)
        kept = np.ones(len(rows), dtype=np.bool_)
        if self._tabs:
            columns[SCENARIO] = _indices(columns["tab"], self._tabs)
            kept &= columns[SCENARIO] >= 0
            self._other_tabs += int(np.count_nonzero(~kept))
        if self._dates is not None:
            columns[SPLIT] = np.full(len(rows), 2) if random else (columns["date"] >= self._dates[0]).astype(np.int64)
            kept &= random | (columns["date"] < self._dates[1])
        for side in sides:
            index, known = side.find(columns[side.key])
            unknown = np.flatnonzero(kept & ~known)
            if len(unknown):
                row = unknown[0]
                reader.refuse(int(rows.lines[row]), f"{side.key} {columns[side.key][row]} is not in {side.path.name}")
                reader.skipped += len(unknown) - 1
            columns |= side.take(index)
            kept &= known
        for name in self._numbers:
            columns[name] = columns[name].astype(np.float32)
        return columns if kept.all() else {name: values[kept] for name, values in columns.items()}


def _indices(values: Int64Array, known: Sequence[int]) -> Int64Array:
    """Return the index of each value in ``known``, -1 if it is not contained."""
    order = np.argsort(known)
    position = np.searchsorted(known, values, sorter=order).clip(max=len(known) - 1)
    return np.where(np.asarray(known)[order[position]] == values, order[position], -1)


def find_files(raw_dir: Path, version: str, logs: Sequence[str] | None, *, random: bool) -> KuairandFiles | None:
    """Return the raw files of a version, or ``None`` if neither the user nor the video table exists.

    Args:
        raw_dir: folder of the files, or the folder that contains ``KuaiRand-1K/data``.
        version: ``1k``, ``pure`` or ``27k``.
        logs: names of log files; ``None``: both standard logs.
        random: whether the random log is needed.

    Raises:
        StemlabError: some files exist and one is missing.
    """
    roots = (raw_dir, raw_dir / _FOLDERS[version])
    sides = side_names(version)
    folders = [folder for root in roots for folder in (root, root / "data")]
    folder = next((one for one in folders if any((one / name).is_file() for name in sides)), None)
    if folder is None:
        return None
    earlier, later, extra = log_names(version)
    names = [earlier, later] if logs is None else logs
    return KuairandFiles(
        tuple(path for name in names for path in _find(folder, name, version)),
        _find(folder, extra, version)[0] if random else None,
        *(_find(folder, name, version)[0] for name in sides),
    )


def missing_file(folder: Path, name: str, version: str) -> StemlabError:
    """Return the error for a missing raw file."""
    return StemlabError(
        f"{folder} has no file {name} (nor in {_FOLDERS[version]}/data): set dataset.raw_dir to its folder "
        "(source of the file: docs/methods/datasets.md) or use dataset.source=sample."
    )


def _find(folder: Path, name: str, version: str) -> list[Path]:
    """Return a file, or its parts (27K splits each standard log into two files)."""
    if (folder / name).is_file():
        return [folder / name]
    parts = sorted(folder.glob(f"{name.removesuffix('.csv')}_part*.csv"))
    if not parts:
        raise missing_file(folder, name, version)
    return parts

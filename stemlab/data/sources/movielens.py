"""MovieLens-1M as a multi-task dataset with the labels like (rating >= 4) and love (rating 5).

Rows are the lines of ratings.dat in file order, joined with users.dat and movies.dat (``::``-separated, latin-1).
Source: docs/methods/datasets.md#movielens-1m-as-two-tasks. Research use, acknowledge GroupLens, no redistribution: the
user downloads the files.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from stemlab.array_types import Int64Array
from stemlab.data.batch import ImpressionBatch
from stemlab.data.cell_rules import CellRules
from stemlab.data.datamodule import ImpressionDataModule
from stemlab.data.io.csv_integers import IntegerReader, OnBadRow, ParsedRows
from stemlab.data.io.progress import Advance
from stemlab.data.io.text_blocks import read_blocks, refuse_bare_returns
from stemlab.data.prepare.encode_table import check_columns, check_group
from stemlab.data.prepare.pipeline import prepare_impressions
from stemlab.data.prepare.preparation_settings import PreparationSettings
from stemlab.data.prepare.split import SplitRule
from stemlab.data.reading import Reading
from stemlab.data.resident import Residence
from stemlab.data.window_order import WINDOW_ROWS
from stemlab.errors import StemlabError
from stemlab.types import NonNegativeInt, PositiveInt

_RAW_FILES = ("ratings.dat", "users.dat", "movies.dat")
_RATING_COLUMNS = ("user_id", "item_id", "rating", "timestamp")
ML1M_FIELDS = ("user_id", "item_id", "gender", "age", "occupation", "zip3", "genre", "year")
_TASKS = ("like", "love")
_YEAR = re.compile(r"\((\d{4})\)\s*$")


@dataclass(frozen=True, slots=True)
class AttributeTable:
    """Attributes of users (users.dat) or films (movies.dat).

    Attributes:
        keys: (K,) ids in ascending order.
        columns: column name -> (K,) int64 values, or codes if the column has ``tokens``.
        tokens: column name -> string of each code.
    """

    keys: Int64Array
    columns: dict[str, Int64Array]
    tokens: dict[str, list[str]]

    def find(self, ids: Int64Array) -> tuple[Int64Array, Any]:
        """Return each id's index in ``keys`` and the mask of ids that exist."""
        index = np.searchsorted(self.keys, ids).clip(max=len(self.keys) - 1)
        return index, self.keys[index] == ids


class RawMovieLens:
    """Integer columns of the three raw files.

    Args:
        folder: the official raw folder.
        on_bad_row: ``error`` raises at the first invalid row, ``skip`` skips and counts invalid rows. Mistakes in
            users.dat and movies.dat are always errors.
    """

    kind = "ml1m_multitask/1"
    sample = False

    def __init__(self, folder: Path, *, on_bad_row: OnBadRow) -> None:
        self.files: Sequence[Path] = tuple(folder / name for name in _RAW_FILES)
        self._reader = IntegerReader(
            self.files[0], _RATING_COLUMNS, separator=b"::", ranges={"rating": (1, 5)}, on_bad_row=on_bad_row
        )
        self.tokens: Mapping[str, Sequence[str]] = {}

    @property
    def skipped(self) -> int:
        """Number of invalid rows skipped so far."""
        return self._reader.skipped

    def chunks(self, advance: Advance) -> Iterator[Mapping[str, Int64Array]]:
        """Yield fields, labels and time block by block."""
        users, movies = read_users(self.files[1]), read_movies(self.files[2])
        self.tokens = {**users.tokens, **movies.tokens}
        for path in self.files[1:]:
            advance(path.stat().st_size)
        for rows in self._reader.parse(read_blocks(self.files[0], _RAW_FILES[0], advance)):
            yield self._join(rows, users, movies)

    def _join(self, rows: ParsedRows, users: AttributeTable, movies: AttributeTable) -> dict[str, Int64Array]:
        user, user_known = users.find(rows.columns["user_id"])
        movie, movie_known = movies.find(rows.columns["item_id"])
        for row in np.flatnonzero(~(user_known & movie_known)):
            name, file = ("item_id", _RAW_FILES[2]) if user_known[row] else ("user_id", _RAW_FILES[1])
            self._reader.refuse(int(rows.lines[row]), f"{name} {rows.columns[name][row]} is not in {file}")
        joined = {
            **rows.columns,
            **{name: values[user] for name, values in users.columns.items()},
            **{name: values[movie] for name, values in movies.columns.items()},
            "like": (rows.columns["rating"] >= 4).astype(np.int64),
            "love": (rows.columns["rating"] == 5).astype(np.int64),
        }
        return {name: values[user_known & movie_known] for name, values in joined.items()}


class MovieLensDataModule(ImpressionDataModule):
    """MovieLens-1M impressions.

    Args:
        name: dataset name.
        raw_dir: the official folder with ratings.dat, users.dat and movies.dat.
        data_dir: root folder of prepared datasets.
        fields: input columns, all categorical.
        tasks: labels to predict.
        group: field that defines the groups of gAUC, or ``None``.
        min_count: minimum number of training samples for a value to get its own id.
        split: rule of the validation and test split; ``time`` uses the time of the rating.
        on_bad_row: ``error`` stops at the first invalid row, ``skip`` skips and counts invalid rows.
        batch_size: training samples per step and process.
        eval_batch_size: maximum number of samples per evaluation batch.
        residence: see ``ImpressionDataModule``.
        reading: see ``ImpressionDataModule``.
        window_rows: see ``ImpressionDataModule``.
        seed: seed of the shuffling.
    """

    cells = CellRules()

    def __init__(
        self,
        *,
        name: str,
        raw_dir: Path,
        data_dir: Path,
        fields: list[str],
        tasks: list[str],
        group: str | None,
        min_count: PositiveInt,
        split: SplitRule,
        on_bad_row: OnBadRow,
        batch_size: PositiveInt,
        eval_batch_size: PositiveInt,
        seed: NonNegativeInt,
        residence: Residence = "auto",
        reading: Reading = "auto",
        window_rows: PositiveInt = WINDOW_ROWS,
    ) -> None:
        super().__init__(
            name=name,
            batch_size=batch_size,
            eval_batch_size=eval_batch_size,
            seed=seed,
            residence=residence,
            reading=reading,
            window_rows=window_rows,
        )
        self._raw_dir, self._data_dir, self._on_bad_row = Path(raw_dir), Path(data_dir), on_bad_row
        columns = check_columns("dataset.fields", fields, ML1M_FIELDS)
        self._preparation = PreparationSettings(
            name=name,
            fields=columns,
            tasks=check_columns("dataset.tasks", tasks, _TASKS),
            group=check_group(group, columns),
            min_count=min_count,
            split=split,
            time=_RATING_COLUMNS[-1],
        )

    def build(self) -> Path:
        """Return the prepared directory of the raw files."""
        missing = [name for name in _RAW_FILES if not (self._raw_dir / name).is_file()]
        if missing:
            raise StemlabError(
                f"{self._raw_dir} has no {missing[0]}: download "
                "https://files.grouplens.org/datasets/movielens/ml-1m.zip, "
                f"unpack it and set dataset.raw_dir to the folder with {', '.join(_RAW_FILES)}."
            )
        raw = RawMovieLens(self._raw_dir, on_bad_row=self._on_bad_row)
        return prepare_impressions(raw, self._preparation, self._data_dir / "prepared", self._on_bad_row)

    def encode(self, table: Any) -> ImpressionBatch:
        """Return rows with the field columns (user_id, item_id, gender, ...) as a batch."""
        return self.table_encoder(table)


def read_users(path: Path) -> AttributeTable:
    """Read users.dat: id, gender, age, occupation, first three characters of the zip code.

    Raises:
        StemlabError: a line is invalid or an id is repeated.
    """
    columns = ("gender", "age", "occupation", "zip3")
    records = {key: (cells[0], int(cells[1]), int(cells[2]), cells[3][:3]) for key, cells in _records(path, 5, (2, 3))}
    return _attribute_table(records, columns)


def read_movies(path: Path) -> AttributeTable:
    """Read movies.dat: id, year (in brackets at the end of the title), first genre.

    Raises:
        StemlabError: a line is invalid or an id is repeated.
    """
    records = {}
    for line, (key, (title, genres)) in enumerate(_records(path, 3, ()), start=1):
        year = _YEAR.search(title)
        if year is None:
            raise StemlabError(
                f"{path}, line {line}: title {title!r} does not end in a year in brackets; correct the line."
            )
        records[key] = (genres.split("|")[0], int(year.group(1)))
    return _attribute_table(records, ("genre", "year"))


def _records(path: Path, width: int, integers: tuple[int, ...]) -> Iterator[tuple[int, list[str]]]:
    """Yield id and other cells of each line.

    Args:
        path: the file.
        width: number of cells per line.
        integers: indices of further integer cells.

    Raises:
        StemlabError: a line is invalid or an id is repeated.
    """
    text = b"".join(block.data for block in read_blocks(path, path.name))
    refuse_bare_returns(path, text, 1)
    lines = text.decode("latin-1").removesuffix("\n").split("\n")
    seen: set[int] = set()
    for number, line in enumerate(lines, start=1):
        cells = line.removesuffix("\r").split("::")
        if len(cells) != width:
            raise StemlabError(f"{path}, line {number}: {len(cells)} columns instead of {width}; correct the line.")
        for column in (0, *integers):
            if not re.fullmatch(r"-?[0-9]{1,18}", cells[column]):
                raise StemlabError(f"{path}, line {number}: {cells[column]!r} is not an integer; correct the line.")
        key = int(cells[0])
        if key in seen:
            raise StemlabError(f"{path}, line {number}: id {key} is repeated; correct the line.")
        seen.add(key)
        yield key, cells[1:]


def _attribute_table(records: Mapping[int, tuple[str | int, ...]], names: Sequence[str]) -> AttributeTable:
    keys = sorted(records)
    columns: dict[str, Int64Array] = {}
    tokens: dict[str, list[str]] = {}
    for index, name in enumerate(names):
        values: list[Any] = [records[key][index] for key in keys]
        if isinstance(values[0], str):
            tokens[name] = sorted(set(values))
            codes = {token: code for code, token in enumerate(tokens[name])}
            values = [codes[value] for value in values]
        columns[name] = np.array(values, dtype=np.int64)
    return AttributeTable(np.array(keys, dtype=np.int64), columns, tokens)

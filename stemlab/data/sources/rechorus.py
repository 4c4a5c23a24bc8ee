"""Folders in the ReChorus format: train, dev and test files with stored negatives.

The files are tab-separated with the header ``user_id item_id time``, and in dev and test ``neg_items``: a bracketed
list of item ids with the same length in every row. Ids are integers from 1; 0 is padding. Plain text or gzip.
Source: docs/methods/datasets.md#rechorus-format.

Legend: R rows, N negatives per row.
"""

from __future__ import annotations

import io
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv

from stemlab.array_types import Int64Array
from stemlab.data.io.progress import Advance
from stemlab.data.io.text_blocks import read_blocks, refuse_bare_returns
from stemlab.data.sequence.categories import ItemCategories
from stemlab.data.sequence.datamodule import SequenceDataModule
from stemlab.data.sequence.prepare import prepare_sequences
from stemlab.data.sequence.protocol import RankingProtocol
from stemlab.data.sequence.raw import RawSequences
from stemlab.data.sources.item_categories import meta_categories
from stemlab.errors import StemlabError
from stemlab.types import NonNegativeInt, PositiveInt

SPLIT_FILES = {"train": "train", "valid": "dev", "test": "test"}  # split -> name of its file
_INTEGERS = ("user_id", "item_id", "time")
_NEGATIVES = "neg_items"
_MAX_GAP_RATIO, _MAX_GAP = 10, 1000  # ids above 10 * (distinct ids) + 1000 are rejected as mistakes
_LIST = re.compile(r"\[\s*\d{1,18}(\s*,\s*\d{1,18})*\s*\]")


@dataclass(frozen=True, slots=True)
class RechorusFile:
    """Contents of one file.

    Attributes:
        path: the file.
        columns: user_id, item_id, time -> (R,) int64.
        negatives: (R, N) int64, or ``None`` if the file has no neg_items.
    """

    path: Path
    columns: Mapping[str, Int64Array]
    negatives: Int64Array | None


class RechorusDataModule(SequenceDataModule):
    """Sequences of a folder in the ReChorus format, such as ``dataset=grocery``.

    Rows are sorted by time and user as in the released code, so a file may be in any order; repeated rows are kept.
    Per user, dev and test must be the last rows; otherwise histories would contain test items. Others are refused.
    The number of items is the largest item id of an interaction, as in the released code. A dev or test row without an
    earlier interaction of its user is not an instance: the manifest counts it in ``interactions``, not in ``rows``.

    Args:
        name: dataset name.
        raw_dir: folder with train, dev and test (``.csv`` or ``.csv.gz``).
        data_dir: root folder of prepared datasets.
        batch_size: training instances per step and process.
        eval_batch_size: maximum number of instances per evaluation batch.
        seed: seed of the shuffling and of the training negatives.
        history_max: H, maximum history length.
        num_negatives: negatives per training instance.
        train_negatives: items that are never drawn as training negatives (see ``SequenceDataModule``).
        times: whether batches contain times.
        evaluation: protocol of the ranking evaluation.
    """

    def __init__(
        self,
        *,
        name: str,
        raw_dir: Path,
        data_dir: Path,
        batch_size: PositiveInt,
        eval_batch_size: PositiveInt,
        seed: NonNegativeInt,
        history_max: PositiveInt,
        num_negatives: PositiveInt,
        train_negatives: Literal["train", "all"],
        times: bool,
        evaluation: RankingProtocol,
    ) -> None:
        super().__init__(
            name=name,
            batch_size=batch_size,
            eval_batch_size=eval_batch_size,
            seed=seed,
            history_max=history_max,
            num_negatives=num_negatives,
            train_negatives=train_negatives,
            times=times,
            evaluation=evaluation,
        )
        self._name, self._raw_dir, self._data_dir = name, Path(raw_dir), Path(data_dir)

    def build(self) -> Path:
        """Return the prepared directory of the folder's files."""
        files = find_parts(self._raw_dir)
        return prepare_sequences(
            lambda advance: read_folder(files, advance),
            name=self._name,
            reader="rechorus/1",
            settings={},
            files=list(files.values()),
            root=self._data_dir / "prepared",
        )

    def read_categories(self) -> ItemCategories | None:
        """Return ``i_category`` of the folder's ``item_meta``, or ``None`` if that file does not exist."""
        found = meta_categories(self._raw_dir)
        return None if found is None else ItemCategories.of(found, self.item_tokens)


def find_parts(folder: Path) -> dict[str, Path]:
    """Return split -> file; names such as train.rebuilt.csv.gz are accepted.

    Raises:
        StemlabError: one of the three files is missing, or several files match.
    """
    return {split: _find(folder, name) for split, name in SPLIT_FILES.items()}


def _find(folder: Path, name: str) -> Path:
    for exact in (folder / f"{name}.csv", folder / f"{name}.csv.gz"):
        if exact.is_file():
            return exact
    found = sorted([*folder.glob(f"{name}.*.csv"), *folder.glob(f"{name}.*.csv.gz")])
    if not found:
        raise StemlabError(
            f"{folder} has no {name}.csv (nor .csv.gz): set dataset.raw_dir to a folder with train, dev and test "
            "in the ReChorus format (sources: data/README.md)."
        )
    if len(found) > 1:
        raise StemlabError(f"{folder} has {found[0].name} and {found[1].name}: remove one of them.")
    return found[0]


def read_folder(files: Mapping[str, Path], advance: Advance) -> RawSequences:
    """Read the three files, train rows first; ties in time keep this order, as in the released code.

    Args:
        files: split -> file (see :func:`find_parts`).
        advance: called with the number of bytes read.

    Raises:
        StemlabError: a file is damaged, a line is invalid, or an id is out of range.
    """
    parts = {split: read_part(path, evaluated=split != "train", advance=advance) for split, path in files.items()}
    columns = {name: np.concatenate([part.columns[name] for part in parts.values()]) for name in _INTEGERS}
    users, items = (_count_ids(name, columns[name], parts.values()) for name in ("user_id", "item_id"))
    for part in parts.values():
        _check_negatives(part, items)
    _check_order(parts)
    return RawSequences(
        user=columns["user_id"],
        item=columns["item_id"],
        time=columns["time"],
        split=np.repeat(np.arange(len(parts), dtype=np.int8), [len(part.columns["time"]) for part in parts.values()]),
        user_tokens=[str(user) for user in range(1, users + 1)],
        item_tokens=[str(item) for item in range(1, items + 1)],
        negatives={
            split: part.negatives.astype(np.int32) for split, part in parts.items() if part.negatives is not None
        },
    )


def _check_order(parts: Mapping[str, RechorusFile]) -> None:
    """Raise StemlabError if a user has rows of an earlier split after rows of a later one, in time order."""
    user, time = (np.concatenate([part.columns[name] for part in parts.values()]) for name in ("user_id", "time"))
    sizes = [len(part.columns["time"]) for part in parts.values()]
    part_of, line = np.repeat(np.arange(len(sizes)), sizes), np.concatenate([np.arange(size) + 2 for size in sizes])
    order = np.lexsort((time, user))  # stable, as in the writer
    wrong = np.flatnonzero((np.diff(user[order]) == 0) & (np.diff(part_of[order]) < 0))
    if not len(wrong):
        return
    late, early, users = order[wrong[0]], order[wrong[0] + 1], len(np.unique(user[order][wrong]))
    paths = [part.path for part in parts.values()]
    raise StemlabError(
        f"{paths[part_of[early]]}, line {line[early]}: user {user[early]} has time {time[early]} here, after time "
        f"{time[late]} in {paths[part_of[late]].name}, line {line[late]} ({users:,} users have "
        "such rows); histories would contain test items: per user, rows of train must be earlier than those of dev, "
        "and those of dev earlier than those of test."
    )


def _count_ids(name: str, ids: Int64Array, parts: Iterable[RechorusFile]) -> int:
    """Return the number of ids, i.e. the largest id; raise if it is far above the number of distinct ids."""
    largest, distinct = int(ids.max()), len(np.unique(ids))
    if largest <= _MAX_GAP_RATIO * distinct + _MAX_GAP:
        return largest
    part = next(part for part in parts if largest in part.columns[name])
    line = int(np.flatnonzero(part.columns[name] == largest)[0]) + 2
    raise StemlabError(
        f"{part.path}, line {line}: {name} is {largest}, but there are {distinct} distinct ids; "
        "number them from 1 without large gaps (embedding tables have one row per id up to the largest)."
    )


def read_part(path: Path, *, evaluated: bool, advance: Advance) -> RechorusFile:
    """Read one file.

    Args:
        path: the file.
        evaluated: whether it is dev or test, whose ``neg_items`` are read if present.
        advance: called with the number of bytes consumed.

    Raises:
        StemlabError: a column is missing, or a line is invalid (the first one is named).
    """
    text = b"".join(block.data for block in read_blocks(path, path.name, advance))
    refuse_bare_returns(path, text, 1)
    header = text[: text.find(b"\n") if b"\n" in text else len(text)].decode("utf-8", "replace").strip("\r").split("\t")
    missing = [name for name in _INTEGERS if name not in header]
    if missing:
        raise StemlabError(
            f"{path}, line 1: the column {missing[0]!r} is missing (tab-separated header: {', '.join(header)}); "
            f"the columns must be named {', '.join(_INTEGERS)}."
        )
    wanted = [*_INTEGERS, *([_NEGATIVES] if evaluated and _NEGATIVES in header else [])]
    try:
        table = pa.csv.read_csv(
            io.BytesIO(text),
            parse_options=pa.csv.ParseOptions(delimiter="\t", quote_char=False),
            convert_options=pa.csv.ConvertOptions(
                include_columns=wanted,
                column_types={name: pa.string() if name == _NEGATIVES else pa.int64() for name in wanted},
                strings_can_be_null=False,
                null_values=[],
            ),
        )
    except pa.ArrowInvalid as error:
        raise _bad_line(path, text, header, wanted, str(error)) from None
    columns = {name: table.column(name).to_numpy() for name in _INTEGERS}
    _check_rows(path, columns)
    return RechorusFile(path, columns, _parse_lists(path, table.column(_NEGATIVES)) if _NEGATIVES in wanted else None)


def _check_rows(path: Path, columns: Mapping[str, Int64Array]) -> None:
    if not len(columns["time"]):
        raise StemlabError(f"{path} has a header but no rows; add interactions.")
    for name in ("user_id", "item_id"):
        invalid = np.flatnonzero(columns[name] < 1)
        if len(invalid):
            raise StemlabError(
                f"{path}, line {invalid[0] + 2}: {name} is {columns[name][invalid[0]]}; ids are integers from 1."
            )


def _bad_line(path: Path, text: bytes, header: Sequence[str], wanted: Sequence[str], error: str) -> StemlabError:
    """Return the error for the first line that Arrow cannot parse."""
    positions = [(name, header.index(name)) for name in wanted if name != _NEGATIVES]
    for number, line in enumerate(text.decode("utf-8", "replace").splitlines()[1:], start=2):
        cells = line.split("\t")
        if len(cells) != len(header):
            return StemlabError(
                f"{path}, line {number}: {len(cells)} columns instead of {len(header)}; correct the line."
            )
        for name, index in positions:
            if not re.fullmatch(r"-?[0-9]{1,18}", cells[index]):
                return StemlabError(
                    f"{path}, line {number}: {name} is {cells[index]!r}, not an integer; correct the line."
                )
    return StemlabError(f"{path} cannot be read ({error}).")


def _parse_lists(path: Path, column: pa.ChunkedArray) -> Int64Array:
    """Return bracketed lists of equal length as a matrix (R, N)."""
    valid = pc.match_substring_regex(column, f"^{_LIST.pattern}$")
    if not pc.all(valid).as_py():
        row = int(np.flatnonzero(~valid.to_numpy())[0])
        raise StemlabError(f"{path}, line {row + 2}: {_NEGATIVES} is not a list like [3, 1, 2]; correct the line.")
    counts = pc.add(pc.count_substring(column, ","), 1).to_numpy()
    different = np.flatnonzero(counts != counts[0])
    if len(different):
        row = different[0]
        raise StemlabError(
            f"{path}, line {row + 2}: {_NEGATIVES} has {counts[row]} items, but line 2 has {counts[0]}; "
            "all rows must have the same number."
        )
    joined = ",".join(pc.utf8_trim(column, "[] ").to_pylist())
    return np.fromstring(joined, dtype=np.int64, sep=",").reshape(len(counts), -1)


def _check_negatives(part: RechorusFile, items: int) -> None:
    if part.negatives is None:
        return
    unknown = np.argwhere((part.negatives < 1) | (part.negatives > items))
    if len(unknown):
        row, column = unknown[0]
        raise StemlabError(
            f"{part.path}, line {row + 2}: item {part.negatives[row, column]} in {_NEGATIVES} is unknown (item ids of "
            f"interactions are 1 to {items}); correct the line."
        )

"""Any folder in the ReChorus format: train, dev and test files with stored negatives (spec: TiMiRec, CIKM 2022, 6.1).

Tab-separated with a header: ``user_id item_id time``, and in dev and test ``neg_items``, a bracketed list of item ids
of the same length in every row. Ids are integers from 1; 0 is padding. Plain text or gzip.

Legend: R rows, N negatives a row.
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
from stemlab.data.io.text_blocks import read_blocks
from stemlab.data.sequence.categories import ItemCategories
from stemlab.data.sequence.datamodule import SequenceDataModule
from stemlab.data.sequence.prepare import prepare_sequences
from stemlab.data.sequence.protocol import RankingProtocol
from stemlab.data.sequence.raw import RawSequences
from stemlab.data.sources.item_categories import meta_categories
from stemlab.errors import StemlabError
from stemlab.types import NonNegativeInt, PositiveInt

SPLIT_FILES = {"train": "train", "valid": "dev", "test": "test"}  # stemlab's split -> name of its file
_INTEGERS = ("user_id", "item_id", "time")
_NEGATIVES = "neg_items"
_GAPS, _FEW = 10, 1000  # a largest id above ten times the number of distinct ones and a thousand is a mistake
_LIST = re.compile(r"\[\s*\d{1,18}(\s*,\s*\d{1,18})*\s*\]")


@dataclass(frozen=True, slots=True)
class RechorusFile:
    """One file, read.

    Attributes:
        path: the file.
        columns: user_id, item_id, time -> (R,) int64.
        negatives: (R, N) int64, or ``None`` in a file without neg_items.
    """

    path: Path
    columns: Mapping[str, Int64Array]
    negatives: Int64Array | None


class RechorusDataModule(SequenceDataModule):
    """A folder in the ReChorus format; ``dataset=grocery`` is one.

    Rows are sorted by time and user as the published code does, so the files may be in any order; equal rows are kept.
    Item ids run to the largest one that was interacted with, as published. A row of dev or test whose user did nothing
    before it is no instance (the manifest's ``interactions`` count it, its ``rows`` do not).

    Args:
        name: dataset name.
        raw_dir: folder with train, dev and test (``.csv`` or ``.csv.gz``).
        data_dir: folder under which prepared datasets are written.
        batch_size: training instances a step on each process.
        eval_batch_size: most instances of an evaluation batch.
        seed: seed of the shuffling and of the training negatives.
        history_max: H, longest history.
        num_negatives: negatives an instance in training.
        train_negatives: whose items are rejected as training negatives (see ``SequenceDataModule``).
        times: whether batches tell times.
        evaluation: how ranking is evaluated.
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
        """Return ``i_category`` of the folder's ``item_meta``, where it has that file."""
        found = meta_categories(self._raw_dir)
        return None if found is None else ItemCategories.of(found, self.item_tokens)


def find_parts(folder: Path) -> dict[str, Path]:
    """Return split -> file; a file may carry more words between its name and its ending (train.rebuilt.csv.gz).

    Raises:
        StemlabError: one of the three is missing, or several could be meant.
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
            "in the ReChorus format (data/README.md says where the published ones come from)."
        )
    if len(found) > 1:
        raise StemlabError(f"{folder} has {found[0].name} and {found[1].name}: leave one of them there.")
    return found[0]


def read_folder(files: Mapping[str, Path], advance: Advance) -> RawSequences:
    """Read the three files, train rows first (ties in time keep this order, as published)."""
    parts = {split: read_part(path, evaluated=split != "train", advance=advance) for split, path in files.items()}
    columns = {name: np.concatenate([part.columns[name] for part in parts.values()]) for name in _INTEGERS}
    users, items = (_count_ids(name, columns[name], parts.values()) for name in ("user_id", "item_id"))
    for part in parts.values():
        _check_negatives(part, items)
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


def _count_ids(name: str, ids: Int64Array, parts: Iterable[RechorusFile]) -> int:
    """Return the largest id, which is how many there are; refuse one that is no number of a numbered list."""
    largest, distinct = int(ids.max()), len(np.unique(ids))
    if largest <= _GAPS * distinct + _FEW:
        return largest
    part = next(part for part in parts if largest in part.columns[name])
    line = int(np.flatnonzero(part.columns[name] == largest)[0]) + 2
    raise StemlabError(
        f"{part.path}, line {line}: {name} is {largest}, with {distinct} different ones in all; "
        "number them from 1 without large gaps (each number up to the largest gets a row of the model's tables)."
    )


def read_part(path: Path, *, evaluated: bool, advance: Advance) -> RechorusFile:
    """Read one file.

    Args:
        path: the file.
        evaluated: whether it is dev or test: its ``neg_items`` are read if it has them.
        advance: told the bytes consumed.

    Raises:
        StemlabError: naming the file and the first bad line or the missing column.
    """
    text = b"".join(block.data for block in read_blocks(path, path.name, advance))
    header = text[: text.find(b"\n") if b"\n" in text else len(text)].decode("utf-8", "replace").strip("\r").split("\t")
    missing = [name for name in _INTEGERS if name not in header]
    if missing:
        raise StemlabError(
            f"{path}, line 1: there is no column {missing[0]!r} (the header has {', '.join(header)}, tab-separated); "
            f"name the columns {', '.join(_INTEGERS)}."
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
        raise StemlabError(f"{path} has a header and no rows; give it interactions.")
    for name in ("user_id", "item_id"):
        wrong = np.flatnonzero(columns[name] < 1)
        if len(wrong):
            raise StemlabError(
                f"{path}, line {wrong[0] + 2}: {name} is {columns[name][wrong[0]]}; ids are integers from 1."
            )


def _bad_line(path: Path, text: bytes, header: Sequence[str], wanted: Sequence[str], told: str) -> StemlabError:
    """Find the line that the reader refused."""
    places = [(name, header.index(name)) for name in wanted if name != _NEGATIVES]
    for number, line in enumerate(text.decode("utf-8", "replace").splitlines()[1:], start=2):
        cells = line.split("\t")
        if len(cells) != len(header):
            return StemlabError(f"{path}, line {number}: {len(cells)} columns instead of {len(header)}; mend the line.")
        for name, place in places:
            if not re.fullmatch(r"-?[0-9]{1,18}", cells[place]):
                return StemlabError(f"{path}, line {number}: {name} is {cells[place]!r}, no integer; mend the line.")
    return StemlabError(f"{path} cannot be read ({told}).")


def _parse_lists(path: Path, column: pa.ChunkedArray) -> Int64Array:
    """Return bracketed lists of equal length as one matrix."""
    good = pc.match_substring_regex(column, f"^{_LIST.pattern}$")
    if not pc.all(good).as_py():
        row = int(np.flatnonzero(~good.to_numpy())[0])
        raise StemlabError(f"{path}, line {row + 2}: {_NEGATIVES} is not a list like [3, 1, 2]; mend the line.")
    counts = pc.add(pc.count_substring(column, ","), 1).to_numpy()
    wrong = np.flatnonzero(counts != counts[0])
    if len(wrong):
        raise StemlabError(
            f"{path}, line {wrong[0] + 2}: {_NEGATIVES} has {counts[wrong[0]]} items, and line 2 has {counts[0]}; "
            "give every row as many."
        )
    joined = ",".join(pc.utf8_trim(column, "[] ").to_pylist())
    return np.fromstring(joined, dtype=np.int64, sep=",").reshape(len(counts), -1)


def _check_negatives(part: RechorusFile, items: int) -> None:
    if part.negatives is None:
        return
    wrong = np.argwhere((part.negatives < 1) | (part.negatives > items))
    if len(wrong):
        row, place = wrong[0]
        raise StemlabError(
            f"{part.path}, line {row + 2}: item {part.negatives[row, place]} in {_NEGATIVES} is unknown (the items "
            f"interacted with are 1 to {items}); mend the line."
        )

"""Folders in the ReChorus format: train, dev and test files with stored negatives.

The files are tab-separated with the header ``user_id item_id time``, and in dev and test ``neg_items``: a bracketed
list of item ids with the same length in every row. Ids are integers from 1; 0 is padding. Plain text or gzip.
Source: docs/methods/datasets.md#rechorus-format.

Legend: R rows, N negatives per row.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Literal

import numpy as np

from stemlab.array_types import Int64Array
from stemlab.data.io.progress import Advance
from stemlab.data.resident import Residence
from stemlab.data.sequence.categories import ItemCategories
from stemlab.data.sequence.datamodule import SequenceDataModule
from stemlab.data.sequence.prepare import prepare_sequences
from stemlab.data.sequence.protocol import RankingProtocol
from stemlab.data.sequence.raw import RawSequences
from stemlab.data.sources.item_categories import meta_categories
from stemlab.data.sources.rechorus_files import INTEGER_COLUMNS, NEG_ITEMS, RechorusFile, read_part
from stemlab.errors import StemlabError
from stemlab.types import NonNegativeInt, PositiveInt

SPLIT_FILES = {"train": "train", "valid": "dev", "test": "test"}  # split -> name of its file
_MAX_GAP_RATIO, _MAX_GAP = 10, 1000  # ids above 10 * (distinct ids) + 1000 are rejected as mistakes


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
        residence: see ``SequenceDataModule``.
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
        residence: Residence = "auto",
    ) -> None:
        super().__init__(
            name=name,
            batch_size=batch_size,
            eval_batch_size=eval_batch_size,
            residence=residence,
            seed=seed,
            history_max=history_max,
            num_negatives=num_negatives,
            train_negatives=train_negatives,
            times=times,
            evaluation=evaluation,
        )
        self._raw_dir, self._data_dir = Path(raw_dir), Path(data_dir)

    def build(self) -> Path:
        """Return the prepared directory of the folder's files."""
        files = find_parts(self._raw_dir)
        return prepare_sequences(
            lambda advance: read_folder(files, advance),
            name=self.name,
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
            "in the ReChorus format (sources: docs/methods/datasets.md)."
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
    columns = {name: np.concatenate([part.columns[name] for part in parts.values()]) for name in INTEGER_COLUMNS}
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


def _check_negatives(part: RechorusFile, items: int) -> None:
    if part.negatives is None:
        return
    unknown = np.argwhere((part.negatives < 1) | (part.negatives > items))
    if len(unknown):
        row, column = unknown[0]
        raise StemlabError(
            f"{part.path}, line {row + 2}: item {part.negatives[row, column]} in {NEG_ITEMS} is unknown (item ids of "
            f"interactions are 1 to {items}); correct the line."
        )

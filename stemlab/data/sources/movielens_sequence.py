"""MovieLens ratings as interaction sequences: ml-1m (``ratings.dat``) and ml-100k (``u.data``).

The raw file is read from the official folder or archive; if it is missing, it is downloaded; without a network
``source=auto`` generates a synthetic sample. Source: docs/methods/datasets.md#movielens-1m-sequences. Research use,
acknowledge GroupLens, no redistribution.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np

from stemlab.array_types import Int64Array
from stemlab.data.io.csv_integers import IntegerReader, OnBadRow
from stemlab.data.io.download import PublishedFile, UnreachableError, fetch
from stemlab.data.io.progress import Advance
from stemlab.data.io.text_blocks import read_blocks
from stemlab.data.resident import Residence
from stemlab.data.sample.folder import announce_sample, sample_file
from stemlab.data.sample.interests import RATING_COLUMNS, InterestSimulation, write_sample
from stemlab.data.sequence.categories import ItemCategories
from stemlab.data.sequence.datamodule import SequenceDataModule
from stemlab.data.sequence.global_time import global_time
from stemlab.data.sequence.leave_one_out import leave_one_out
from stemlab.data.sequence.prepare import prepare_sequences
from stemlab.data.sequence.protocol import RankingProtocol
from stemlab.data.sequence.raw import RawSequences
from stemlab.data.sources.item_categories import first_genres, planted_interests
from stemlab.errors import StemlabError
from stemlab.types import NonNegativeInt, PositiveInt

MOVIELENS_URL = "https://files.grouplens.org/datasets/movielens"
_NOTICE = (
    "MovieLens, research use only, no redistribution and no commercial use without permission; acknowledge GroupLens "
    "(Harper and Konstan, 2015, doi 10.1145/2827872)"
)


@dataclass(frozen=True, slots=True)
class MovieLensCollection:
    """File format of one MovieLens collection.

    Attributes:
        ratings: name of the file of ratings.
        separator: separator of its columns.
        md5: checksum of the archive ``<name>.zip``.
    """

    ratings: str
    separator: bytes
    md5: str


COLLECTIONS: Mapping[str, MovieLensCollection] = {
    "ml-1m": MovieLensCollection("ratings.dat", b"::", "c4d9eecfca2ab87c1945afe126590906"),
    "ml-100k": MovieLensCollection("u.data", b"\t", "0e33842e24a9c977be4e0107933c0723"),
}
_SAMPLE_COLLECTION = "ml-1m"


class MovieLensSequences(SequenceDataModule):
    """Rated films of each user, sorted by time.

    Args:
        name: dataset name.
        collection: MovieLens collection to read.
        raw_dir: folder of the file of ratings or of the archive, or one of these files.
        data_dir: root folder of prepared datasets and samples.
        source: ``raw`` needs the raw file (or its download), ``sample`` makes the synthetic sample, ``auto`` falls back
            to it.
        download: whether a missing raw file is downloaded from its publisher into ``raw_dir``.
        protocol: ``cikm22``: all ratings, leave-one-out (docs/methods/datasets.md#leave-one-out-protocol); ``master``:
            likes only, split at two dates (docs/methods/datasets.md#global-time-protocol).
        eval_negatives: stored negatives per validation and test row; 0 stores none.
        eval_seed: seed of these negatives (released code: 0).
        largest_negative: largest item id of these negatives; ``None``: as in the released code (``cikm22`` only).
        on_bad_row: ``error`` stops at the first invalid row, ``skip`` skips and counts invalid rows.
        sample: settings of the synthetic data.
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
        collection: Literal["ml-1m", "ml-100k"],
        raw_dir: Path,
        data_dir: Path,
        source: Literal["auto", "raw", "sample"],
        download: bool,
        protocol: Literal["cikm22", "master"],
        eval_negatives: NonNegativeInt,
        eval_seed: NonNegativeInt,
        largest_negative: PositiveInt | None,
        on_bad_row: OnBadRow,
        sample: InterestSimulation,
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
        if protocol == "master" and largest_negative is not None:
            raise StemlabError("dataset.largest_negative needs dataset.protocol=cikm22: set it to null.")
        self._collection, self._raw_dir, self._data_dir = collection, Path(raw_dir), Path(data_dir)
        self._source, self._download, self._simulation = source, download, sample
        self._on_bad_row = on_bad_row
        self._settings: dict[str, Any] = {
            "protocol": protocol,
            "eval_negatives": eval_negatives,
            "eval_seed": eval_seed,
            "largest_negative": largest_negative,
            "on_bad_row": on_bad_row,
        }

    def build(self) -> Path:
        """Return the prepared directory of the raw file or of the sample."""
        path, sample = self._find_or_make()
        kind = _SAMPLE_COLLECTION if sample else self._collection
        return prepare_sequences(
            lambda advance: self._read(path, COLLECTIONS[kind], advance),
            name=self.name,
            reader=f"movielens_sequence/1 {kind}",
            settings=self._settings,
            files=[path],
            root=self._data_dir / "prepared",
            sample=sample,
        )

    def read_categories(self) -> ItemCategories | None:
        """Return first genres, or the planted interests of the synthetic sample."""
        if self.manifest["sample"]:
            return ItemCategories.of(planted_interests(self._simulation), self.item_tokens)
        ratings = find_ratings(self._raw_dir, self._collection)
        genres = first_genres(ratings, COLLECTIONS[self._collection].ratings) if ratings else None
        return None if genres is None else ItemCategories.of(genres, self.item_tokens)

    def _find_or_make(self) -> tuple[Path, bool]:
        """Return the file to read and whether it is synthetic."""
        if self._source == "sample":
            return self._make_sample(""), True
        found = find_ratings(self._raw_dir, self._collection)
        if found:
            return found, False
        ratings, url = COLLECTIONS[self._collection].ratings, f"{MOVIELENS_URL}/{self._collection}.zip"
        missing = f"no {ratings} and no {self._collection}.zip in {self._raw_dir}"
        advice = f"put {url} into {self._raw_dir}, set dataset.raw_dir to its folder, or use dataset.source=sample"
        if self._download:
            file = PublishedFile(url=url, md5=COLLECTIONS[self._collection].md5, notice=_NOTICE)
            try:
                return fetch(file, self._raw_dir, advice), False
            except UnreachableError:
                if self._source == "raw":
                    raise
                return self._make_sample(f"{missing}, and {url} cannot be reached"), True
        if self._source == "raw":
            raise StemlabError(f"{missing[:1].upper()}{missing[1:]}, and dataset.download is false: {advice}.")
        return self._make_sample(missing), True

    def _make_sample(self, missing: str) -> Path:
        announce_sample(self._source, missing, f"{self._simulation.users:,} synthetic users in the format of MovieLens")
        name, write = COLLECTIONS[_SAMPLE_COLLECTION].ratings, partial(write_sample, simulation=self._simulation)
        return sample_file(self._data_dir / "sample", "movielens", name, self._simulation, write)

    def _read(self, path: Path, collection: MovieLensCollection, advance: Advance) -> RawSequences:
        columns, skipped = read_ratings(path, collection, self._on_bad_row, advance)
        user, item, time = columns["user_id"], columns["item_id"], columns["timestamp"]
        options: dict[str, Any] = {
            "eval_negatives": self._settings["eval_negatives"],
            "seed": self._settings["eval_seed"],
            "skipped": skipped,
        }
        if self._settings["protocol"] == "master":
            return global_time(user, item, time, columns["rating"], **options)
        return leave_one_out(user, item, time, largest_negative=self._settings["largest_negative"], **options)


def find_ratings(folder: Path, collection: str) -> Path | None:
    """Return the path of the file of ratings or of the archive that contains it, or ``None``.

    Args:
        folder: its folder, the parent folder (as after unpacking the archive), or the file itself.
        collection: ``ml-1m`` or ``ml-100k``.
    """
    ratings = COLLECTIONS[collection].ratings
    candidates = (folder, folder / ratings, folder / f"{ratings}.gz", folder / collection / ratings)
    return next((path for path in (*candidates, folder / f"{collection}.zip") if path.is_file()), None)


def read_ratings(
    path: Path, collection: MovieLensCollection, on_bad_row: OnBadRow, advance: Advance
) -> tuple[dict[str, Int64Array], int]:
    """Read a file of ratings: plain, gzip or inside its archive.

    Args:
        path: the file or archive.
        collection: format of the file.
        on_bad_row: ``error`` raises at the first invalid row, ``skip`` skips and counts invalid rows.
        advance: called with the number of bytes consumed.

    Returns:
        user_id, item_id, rating (1 to 5) and timestamp, int64 in file order, and the number of skipped rows.

    Raises:
        StemlabError: the file is empty, truncated or damaged, has no valid row, or an invalid one.
    """
    reader = IntegerReader(
        path, RATING_COLUMNS, separator=collection.separator, ranges={"rating": (1, 5)}, on_bad_row=on_bad_row
    )
    blocks = [rows.columns for rows in reader.parse(read_blocks(path, collection.ratings, advance))]
    columns = {name: np.concatenate([block[name] for block in blocks]) for name in RATING_COLUMNS}
    if not len(columns["user_id"]):
        raise StemlabError(f"{path} has no valid row: all {reader.skipped} are invalid; is it the right file?")
    return columns, reader.skipped

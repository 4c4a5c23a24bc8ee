"""Amazon product reviews (2014, 5-core): who reviewed what, and when (TiMiRec, CIKM 2022; spec 6.3).

One JSON object a line, plain or gzip; of its keys reviewerID, asin and unixReviewTime are read. Split and negatives are
those of the leave-one-out protocol; ids are numbered in the order of the original strings. Categories come from the
metadata beside the reviews, where there are any.
"""

from __future__ import annotations

import io
import json
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.json
from numpy.typing import NDArray

from stemlab.array_types import Int64Array
from stemlab.data.io.arrow import as_numpy
from stemlab.data.io.progress import Advance
from stemlab.data.io.text_blocks import TextBlock, count_lines, read_blocks
from stemlab.data.sequence.datamodule import SequenceDataModule
from stemlab.data.sequence.leave_one_out import leave_one_out
from stemlab.data.sequence.prepare import prepare_sequences
from stemlab.data.sequence.protocol import RankingProtocol
from stemlab.data.sequence.raw import RawSequences
from stemlab.data.sources.amazon_meta import find_meta, read_leaves
from stemlab.errors import StemlabError
from stemlab.types import NonNegativeInt, PositiveInt

_KEYS = ("reviewerID", "asin", "unixReviewTime")
_TIME = _KEYS[-1]
_SITE = "jmcauley.ucsd.edu/data/amazon"
_SCHEMA = pa.schema([(key, pa.int64() if key == _TIME else pa.string()) for key in _KEYS])
_SHOWN = 40


class AmazonDataModule(SequenceDataModule):
    """Reviews of one category as sequences; ``dataset=beauty`` is one.

    Args:
        name: dataset name.
        raw_dir: folder of the review file, or the file itself.
        raw_file: name of the file in it, ``reviews_<Category>_5.json.gz`` (the unpacked one is found, too).
        meta_file: file of the items' categories beside the reviews, or a path; ``None``: ``meta_<Category>.json.gz``
            after the name of the review file (or the unpacked one) if it is there, else items have no categories.
        data_dir: folder under which prepared datasets are written.
        eval_negatives: negatives stored for each valid and test row (published: 1,000); 0 stores none.
        eval_seed: seed that draws them (published: 0).
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
        raw_file: str,
        meta_file: str | None = None,  # not in a checkpoint of an earlier version
        data_dir: Path,
        eval_negatives: NonNegativeInt,
        eval_seed: NonNegativeInt,
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
        self._dataset, self._data_dir = name, Path(data_dir)
        self._raw_dir, self._raw_file, self._meta_file = Path(raw_dir), raw_file, meta_file
        self._eval = {"eval_negatives": eval_negatives, "eval_seed": eval_seed}

    def build(self) -> Path:
        """Return the prepared directory of the review file and of the metadata, if there are any."""
        file = find_reviews(self._raw_dir, self._raw_file)
        meta = find_meta(file, self._meta_file)
        return prepare_sequences(
            lambda advance: self._read(file, meta, advance),
            name=self._dataset,
            reader="amazon/1" if meta is None else "amazon/1 meta/1",
            settings=self._eval,
            files=[file] if meta is None else [file, meta],
            root=self._data_dir / "prepared",
        )

    def _read(self, file: Path, meta: Path | None, advance: Advance) -> RawSequences:
        negatives, seed = self._eval["eval_negatives"], self._eval["eval_seed"]
        sequences = leave_one_out(*read_reviews(file, advance), eval_negatives=negatives, seed=seed)
        if meta is None:
            return sequences
        leaf_of = read_leaves(meta, sequences.item_tokens, advance)
        return replace(sequences, categories=[leaf_of.get(item) for item in sequences.item_tokens])


def find_reviews(folder: Path, name: str) -> Path:
    """Return the review file.

    Args:
        folder: where it is, or the file itself.
        name: its name; without ``.gz`` it is taken as well.

    Raises:
        StemlabError: it is not there; the sentence says where it comes from.
    """
    found = [path for path in (folder, folder / name, folder / name.removesuffix(".gz")) if path.is_file()]
    if not found:
        raise StemlabError(
            f"{folder} has no file {name}: download it from {_SITE} (2014, 5-core file of the category; terms: "
            "data/README.md) and put it there, or set dataset.raw_dir and dataset.raw_file."
        )
    return found[0]


def read_reviews(path: Path, advance: Advance) -> tuple[NDArray[np.str_], NDArray[np.str_], Int64Array]:
    """Read a review file.

    Args:
        path: one JSON object a line, plain or gzip.
        advance: told the bytes consumed.

    Returns:
        (R,) reviewerID and (R,) asin as strings, (R,) unixReviewTime as int64 seconds, in file order.

    Raises:
        StemlabError: the file is empty, truncated or damaged, or the first line that is no review.
    """
    table = pa.concat_tables([_parse(path, block) for block in read_blocks(path, path.name, advance)])
    user, item = (np.array(table.column(key).to_pylist(), dtype=np.str_) for key in _KEYS[:2])
    return user, item, as_numpy(table.column(_TIME))


def _parse(path: Path, block: TextBlock) -> pa.Table:
    """Parse at full speed; what that reader refuses, or may take too lightly, is read again line by line."""
    lines = count_lines(block.data) + (not block.data.endswith(b"\n"))
    try:
        table = pa.json.read_json(
            io.BytesIO(block.data),
            read_options=pa.json.ReadOptions(block_size=len(block.data)),
            parse_options=pa.json.ParseOptions(explicit_schema=_SCHEMA, unexpected_field_behavior="ignore"),
        )
    except pa.ArrowInvalid:
        return _parse_lines(path, block)
    return table if table.num_rows == lines and _plain(table) else _parse_lines(path, block)


def _plain(table: pa.Table) -> bool:
    """Return whether every key is given and every id consists of visible ASCII characters, as published ids do."""
    given = all(column.null_count == 0 for column in table.columns)
    return given and all(pc.all(pc.match_substring_regex(table[key], r"\A[!-~]+\z")).as_py() for key in _KEYS[:2])


def _parse_lines(path: Path, block: TextBlock) -> pa.Table:
    reviews = []
    for number, line in enumerate(block.data.removesuffix(b"\n").split(b"\n"), start=block.first_line):
        try:  # bytes that are no UTF-8 matter in ids only, where they are not printable
            review = json.loads(line.decode("utf-8-sig", "surrogateescape"))
        except (ValueError, RecursionError):
            review = None
        problem = _problem(review)
        if problem:
            raise StemlabError(f"{path}, line {number}: {problem}; mend the line or fetch the file again.")
        reviews.append({key: review[key] for key in _KEYS})
    return pa.Table.from_pylist(reviews, schema=_SCHEMA)


def _problem(review: Any) -> str | None:
    """Return what is wrong with a line, or ``None``."""
    if not isinstance(review, dict):
        return "this is no JSON object"
    for key in _KEYS:
        value = review.get(key)
        if key not in review:
            return f"there is no key {key!r}"
        if key == _TIME and not (type(value) is int and -(1 << 63) <= value < 1 << 63):  # True is an int as well
            return f"{key!r} is {_shown(value)}, not an integer"
        if key != _TIME and not (isinstance(value, str) and value and value.isprintable()):
            return f"{key!r} is {_shown(value)}, not an id"
    return None


def _shown(value: Any) -> str:
    return json.dumps(value)[:_SHOWN]

"""Amazon product reviews (2014, 5-core) as interaction sequences, as in TiMiRec (CIKM 2022).

The file has one JSON object per line, plain or gzip; the keys reviewerID, asin and unixReviewTime are read. Split and
negatives follow the leave-one-out protocol; ids follow the order of the original strings. Item categories come from the
metadata file, if there is one. Source: docs/methods/datasets.md#beauty.
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

from stemlab.array_types import Int64Array, StringArray
from stemlab.data.io.arrow import as_numpy
from stemlab.data.io.progress import Advance
from stemlab.data.io.text_blocks import TextBlock, count_lines, read_blocks
from stemlab.data.resident import Residence
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
_MAX_SHOWN = 40


class AmazonDataModule(SequenceDataModule):
    """Reviews of one category as sequences; ``dataset=beauty`` is one.

    Args:
        name: dataset name.
        raw_dir: folder of the review file, or the file itself.
        raw_file: name of the review file, ``reviews_<Category>_5.json.gz``; the unpacked file is accepted too.
        meta_file: metadata file with the item categories, in the folder of the reviews, or a path; ``None``:
            ``meta_<Category>.json.gz`` of the same category (or the unpacked file) if it exists, else no categories.
        data_dir: root folder of prepared datasets.
        eval_negatives: stored negatives per validation and test row (released code: 1,000); 0 stores none.
        eval_seed: seed of these negatives (released code: 0).
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
        raw_file: str,
        meta_file: str | None,
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
        self._data_dir = Path(data_dir)
        self._raw_dir, self._raw_file, self._meta_file = Path(raw_dir), raw_file, meta_file
        self._eval = {"eval_negatives": eval_negatives, "eval_seed": eval_seed}

    def build(self) -> Path:
        """Return the prepared directory of the review file and of the metadata file, if it exists."""
        file = find_reviews(self._raw_dir, self._raw_file)
        meta = find_meta(file, self._meta_file)
        return prepare_sequences(
            lambda advance: self._read(file, meta, advance),
            name=self.name,
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
    """Return the path of the review file.

    Args:
        folder: its folder, or the file itself.
        name: name of the file; the file without ``.gz`` is accepted too.

    Raises:
        StemlabError: the file does not exist; the message names the source.
    """
    found = [path for path in (folder, folder / name, folder / name.removesuffix(".gz")) if path.is_file()]
    if not found:
        raise StemlabError(
            f"{folder} has no file {name}: download it from {_SITE} (2014, 5-core file of the category; terms: "
            "docs/methods/datasets.md) and put it there, or set dataset.raw_dir and dataset.raw_file."
        )
    return found[0]


def read_reviews(path: Path, advance: Advance) -> tuple[StringArray, StringArray, Int64Array]:
    """Read a review file.

    Args:
        path: file with one JSON object per line, plain or gzip.
        advance: called with the number of bytes consumed.

    Returns:
        (R,) reviewerID and (R,) asin as strings, (R,) unixReviewTime as int64 seconds, in file order.

    Raises:
        StemlabError: the file is empty, truncated or damaged, or a line is invalid (the first one is named).
    """
    table = pa.concat_tables([_parse(path, block) for block in read_blocks(path, path.name, advance)])
    user, item = (np.array(table.column(key).to_pylist(), dtype=np.str_) for key in _KEYS[:2])
    return user, item, as_numpy(table.column(_TIME))


def _parse(path: Path, block: TextBlock) -> pa.Table:
    """Parse a block with Arrow; blocks that Arrow rejects, or parses more leniently, are re-parsed line by line."""
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
    """Return True if no key is missing and all ids consist of visible ASCII characters, like the real ids."""
    complete = all(column.null_count == 0 for column in table.columns)
    return complete and all(pc.all(pc.match_substring_regex(table[key], r"\A[!-~]+\z")).as_py() for key in _KEYS[:2])


def _parse_lines(path: Path, block: TextBlock) -> pa.Table:
    reviews = []
    for number, line in enumerate(block.data.removesuffix(b"\n").split(b"\n"), start=block.first_line):
        try:  # invalid UTF-8 matters in ids only, where its surrogates are not printable
            review = json.loads(line.decode("utf-8-sig", "surrogateescape"))
        except (ValueError, RecursionError):
            review = None
        problem = _problem(review)
        if problem:
            raise StemlabError(f"{path}, line {number}: {problem}; correct the line or download the file again.")
        reviews.append({key: review[key] for key in _KEYS})
    return pa.Table.from_pylist(reviews, schema=_SCHEMA)


def _problem(review: Any) -> str | None:
    """Return a description of what is wrong with a line, or ``None``."""
    if not isinstance(review, dict):
        return "the line is not a JSON object"
    for key in _KEYS:
        value = review.get(key)
        if key not in review:
            return f"the key {key!r} is missing"
        if key == _TIME and not (type(value) is int and -(1 << 63) <= value < 1 << 63):  # excludes bool
            return f"{key!r} is {_shorten(value)}, not an integer"
        if key != _TIME and not (isinstance(value, str) and value and value.isprintable()):
            return f"{key!r} is {_shorten(value)}, not an id"
    return None


def _shorten(value: Any) -> str:
    return json.dumps(value)[:_MAX_SHOWN]

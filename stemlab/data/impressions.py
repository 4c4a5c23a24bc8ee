"""Raw impressions -> prepared directory: split, vocabularies from train, encoded columns, manifest.

Every step goes through the rows chunk by chunk; only the split codes (and their permutation) and one field's counts
grow with the data.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

import stemlab
from stemlab.data.ahead import work_ahead
from stemlab.data.arrow import as_numpy
from stemlab.data.counting import count_values
from stemlab.data.directory import find_or_build
from stemlab.data.manifest import FORMAT, describe_file, find_damage, fingerprint_of, write_manifest
from stemlab.data.progress import Advance, Steps
from stemlab.data.spec import DatasetSpec, Field
from stemlab.data.split import SPLITS, Codes, SplitRule, random_codes, split_sizes, time_codes
from stemlab.data.spool import Spool
from stemlab.data.store import StoreWriter
from stemlab.data.vocabulary import IntegerEncoder, Vocabulary
from stemlab.errors import StemlabError

Ints = NDArray[np.int64]


class RawImpressions(Protocol):
    """A dataset's raw files as integer columns."""

    @property
    def kind(self) -> str:
        """Name and version of the reader; part of the fingerprint."""

    @property
    def files(self) -> Sequence[Path]:
        """Every raw file that is read."""

    @property
    def sample(self) -> bool:
        """Whether they are synthetic."""

    @property
    def skipped(self) -> int:
        """Bad rows left out, known when ``chunks`` is exhausted."""

    @property
    def tokens(self) -> Mapping[str, Sequence[str]]:
        """Column -> strings that its integers stand for; other columns are their own tokens. Known after ``chunks``."""

    def chunks(self, advance: Advance) -> Iterator[Mapping[str, Ints]]:
        """Yield the columns chunk by chunk in row order, telling ``advance`` the bytes of the files consumed."""
        ...


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """What is made of the raw columns.

    Attributes:
        name: dataset name.
        fields: categorical input columns in order.
        tasks: label columns in order.
        group: column whose values group rows for gAUC, or ``None``.
        min_count: training rows that a token needs to get an id.
        split: how rows are shared out.
        time: column that a split along time goes by.
    """

    name: str
    fields: tuple[str, ...]
    tasks: tuple[str, ...]
    group: str | None
    min_count: int
    split: SplitRule
    time: str

    @property
    def columns(self) -> list[str]:
        """Raw columns that are needed, each once."""
        grouped = [self.group] if self.group else []
        timed = [self.time] if self.split.rule == "time" else []
        return list(dict.fromkeys([*self.fields, *self.tasks, *grouped, *timed]))


def prepare_impressions(raw: RawImpressions, recipe: Recipe, root: Path, on_bad_row: str) -> Path:
    """Return the prepared directory of these files and this recipe, building it if there is none.

    Args:
        raw: the raw files.
        recipe: what to make of them.
        root: directory of all prepared datasets.
        on_bad_row: how ``raw`` treats bad rows; part of the fingerprint.

    Raises:
        StemlabError: bad rows, too few rows, a full disk.
    """
    with Steps() as steps:
        size = sum(path.stat().st_size for path in raw.files)
        advance = steps.bytes("checking raw files", size)
        files = [describe_file(path, root / ".hashes.json", advance) for path in raw.files]
        settings = {"reader": raw.kind, "sample": raw.sample, "raw": files, "on_bad_row": on_bad_row, **asdict(recipe)}
        fingerprint = fingerprint_of(settings)
        about = {"fingerprint": fingerprint, "raw": files, "on_bad_row": on_bad_row}
        return find_or_build(
            root / f"{recipe.name}-{fingerprint[:12]}",
            lambda directory: find_damage(directory, fingerprint),
            lambda directory: _build(directory, raw, recipe, steps, about),
        )


def _build(directory: Path, raw: RawImpressions, recipe: Recipe, steps: Steps, about: Mapping[str, Any]) -> None:
    spool = Spool(directory / "spool", recipe.columns)
    advance = steps.bytes("reading raw files", sum(path.stat().st_size for path in raw.files))
    for chunk in work_ahead(raw.chunks(advance)):
        spool.append(chunk)
    if not len(spool):
        raise StemlabError(f"{raw.files[0]} has no usable row ({raw.skipped} bad rows were skipped).")
    codes = _codes(spool, recipe)
    encoders, vocabularies = {}, {}
    advance = steps.rows("counting train rows", len(spool) * len(recipe.fields))
    for name in recipe.fields:
        vocabulary = _vocabulary(name, spool, codes, recipe, raw.tokens.get(name))
        vocabularies[name] = vocabulary.size
        vocabulary.save(directory / "vocabulary")
        encoders[name] = IntegerEncoder(vocabulary, _values(vocabulary, raw.tokens.get(name)))
        advance(len(spool))
    positives = _write_splits(directory, spool, codes, encoders, recipe, steps.rows("writing splits", len(spool)))
    spool.close()
    shutil.rmtree(directory / "spool")
    fields = tuple(Field(name, size) for name, size in vocabularies.items())
    spec = DatasetSpec(recipe.name, fields, recipe.tasks, recipe.group, sample=raw.sample)
    write_manifest(directory, {**_manifest(spec, recipe, len(codes), positives, raw.skipped), **about})


def _manifest(
    spec: DatasetSpec, recipe: Recipe, rows: int, positives: Mapping[str, Any], skipped: int
) -> dict[str, Any]:
    return {
        "format": FORMAT,
        "stemlab": stemlab.__version__,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "sample": spec.sample,
        "spec": spec.to_dict(),
        "rows": dict(zip(SPLITS, split_sizes(rows, recipe.split), strict=True)),
        "positives": dict(positives),
        "skipped_rows": skipped,
        "split": asdict(recipe.split),
        "min_count": recipe.min_count,
        "vocabulary": spec.field_sizes,
    }


def _codes(spool: Spool, recipe: Recipe) -> Codes:
    if recipe.split.rule == "time":
        return time_codes(len(spool), recipe.split, lambda: spool.column(recipe.time))
    return random_codes(len(spool), recipe.split)


def _vocabulary(name: str, spool: Spool, codes: Codes, recipe: Recipe, tokens: Sequence[str] | None) -> Vocabulary:
    values, counts = count_values(lambda: _train_only(spool.column(name), codes), spool.span(name), recipe.min_count)
    known: Any = values if tokens is None else pa.array([tokens[value] for value in values], pa.string())
    return Vocabulary.fit(name, known, counts, recipe.min_count)


def _train_only(chunks: Iterable[Ints], codes: Codes) -> Iterator[Ints]:
    row = 0
    for chunk in chunks:
        yield chunk[codes[row : row + len(chunk)] == 0]
        row += len(chunk)


def _values(vocabulary: Vocabulary, tokens: Sequence[str] | None) -> Ints:
    """Return the raw integers of the vocabulary's tokens, in id order."""
    if tokens is None:
        return as_numpy(pc.cast(vocabulary.tokens, pa.int64()))
    integers = {token: value for value, token in enumerate(tokens)}
    return np.array([integers[token] for token in vocabulary.tokens.to_pylist()], dtype=np.int64)


def _write_splits(
    directory: Path,
    spool: Spool,
    codes: Codes,
    encoders: Mapping[str, IntegerEncoder],
    recipe: Recipe,
    advance: Advance,
) -> dict[str, dict[str, int]]:
    """Write the three splits; return split -> task -> positives."""
    positives = np.zeros((len(SPLITS), len(recipe.tasks)), dtype=np.int64)
    with ExitStack() as stack:
        writers = [
            stack.enter_context(
                StoreWriter(
                    directory / f"{split}.arrow", rows, recipe.fields, recipe.tasks, grouped=recipe.group is not None
                )
            )
            for split, rows in zip(SPLITS, split_sizes(len(codes), recipe.split), strict=True)
        ]
        for codes_B, ids_BF, labels_BT, group_B in work_ahead(_encoded(spool, codes, encoders, recipe)):
            for code, writer in enumerate(writers):
                kept = np.flatnonzero(codes_B == code)
                writer.append(ids_BF[kept], labels_BT[kept], None if group_B is None else group_B[kept])
                positives[code] += labels_BT[kept].sum(axis=0, dtype=np.int64)
            advance(len(codes_B))
    counts = (dict(zip(recipe.tasks, map(int, row), strict=True)) for row in positives)
    return dict(zip(SPLITS, counts, strict=True))


def _encoded(
    spool: Spool, codes: Codes, encoders: Mapping[str, IntegerEncoder], recipe: Recipe
) -> Iterator[tuple[Codes, NDArray[np.int32], NDArray[np.int8], Ints | None]]:
    """Yield split codes, ids, labels and group keys chunk by chunk."""
    row = 0
    for chunk, rows in zip(spool.chunks(recipe.columns), spool.rows, strict=True):
        ids_BF = np.empty((rows, len(recipe.fields)), dtype=np.int32)
        for place, name in enumerate(recipe.fields):
            ids_BF[:, place] = encoders[name](chunk[name])
        labels_BT = np.stack([chunk[name].astype(np.int8) for name in recipe.tasks], axis=1)
        yield codes[row : row + rows], ids_BF, labels_BT, chunk[recipe.group] if recipe.group else None
        row += rows

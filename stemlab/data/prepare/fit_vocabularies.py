"""What training rows say: vocabularies of categorical fields, scaling of numerical columns."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from stemlab.array_types import AnyArray, Int64Array, UInt8Array
from stemlab.data.io.arrow import as_numpy
from stemlab.data.io.progress import ProgressBars
from stemlab.data.prepare.column_cache import ColumnCache
from stemlab.data.prepare.prepare_config import PrepareConfig
from stemlab.data.prepare.scaling import Scaler
from stemlab.data.prepare.value_counts import count_values
from stemlab.data.prepare.vocabulary import IntegerEncoder, Vocabulary

Tokens = Mapping[str, Sequence[str]]


@dataclass(frozen=True, slots=True)
class FittedEncoders:
    """How raw columns become stored ones.

    Attributes:
        encoders: field -> raw integers to ids.
        sizes: field -> embedding rows.
        scalers: numerical column -> its scaling.
    """

    encoders: Mapping[str, IntegerEncoder]
    sizes: Mapping[str, int]
    scalers: Mapping[str, Scaler]


def fit_encoders(
    directory: Path,
    spool: ColumnCache,
    codes: UInt8Array,
    config: PrepareConfig,
    tokens: Tokens,
    progress: ProgressBars,
) -> FittedEncoders:
    """Return vocabularies and scaling of the training rows; the vocabularies are written."""
    encoders: dict[str, IntegerEncoder] = {}
    sizes: dict[str, int] = {}
    advance = progress.rows("counting train rows", len(spool) * (len(config.fields) + len(config.numericals)))
    for owner, names in config.tables.items():
        vocabulary, values = _vocabulary(owner, spool, codes, config, tokens)
        vocabulary.save(directory / "vocabulary")
        paddings = {config.padding.get(name) for name in names}
        made = {padding: IntegerEncoder(vocabulary, values, padding) for padding in paddings}  # tables may be large
        for name in names:
            encoders[name] = made[config.padding.get(name)]
            sizes[name] = vocabulary.size
            advance(len(spool))
    scalers = {}
    for column in config.numericals:
        scalers[column.name] = Scaler.fit(column.name, column.scaling, _train_rows(spool, column.name, codes))
        advance(len(spool))
    return FittedEncoders(encoders, sizes, scalers)


def _vocabulary(
    owner: str, spool: ColumnCache, codes: UInt8Array, config: PrepareConfig, tokens: Tokens
) -> tuple[Vocabulary, Int64Array]:
    """Return the vocabulary of a field (and of those that share it) and the raw integers of its tokens, in id order."""
    names = config.tables[owner]
    known = tokens.get(owner)
    if any(tokens.get(name) is not known for name in names):
        raise ValueError(f"{', '.join(names)} share a vocabulary, but their integers stand for different tokens")
    spans = [spool.span(name) for name in names]
    span = (min(low for low, _ in spans), max(high for _, high in spans))
    values, counts = count_values(lambda: _training_values(names, spool, codes, config), span, config.min_count)
    if known is None:
        vocabulary = Vocabulary.fit(owner, values, counts, config.min_count)
        return vocabulary, as_numpy(pc.cast(vocabulary.tokens, pa.int64()))
    words = _words(known, values)
    vocabulary = Vocabulary.fit(owner, words, counts, config.min_count)
    return vocabulary, values[as_numpy(pc.index_in(vocabulary.tokens, value_set=words))]


def _words(tokens: Sequence[str], values: Int64Array) -> Any:
    take = getattr(tokens, "take", None)  # an Arrow-backed sequence finds millions of tokens at once
    words = take(values) if take else pa.array([tokens[value] for value in values], pa.string())
    return words.combine_chunks() if isinstance(words, pa.ChunkedArray) else words


def _training_values(
    names: Sequence[str], spool: ColumnCache, codes: UInt8Array, config: PrepareConfig
) -> Iterator[Int64Array]:
    """Yield the columns of a vocabulary one after the other, without what stands for nothing."""
    for name in names:
        nothing = config.padding.get(name)
        for values in _train_rows(spool, name, codes):
            yield values if nothing is None else values[values != nothing]


def _train_rows(spool: ColumnCache, name: str, codes: UInt8Array) -> Iterator[AnyArray]:
    row = 0
    for chunk in spool.column(name):
        yield chunk[codes[row : row + len(chunk)] == 0]
        row += len(chunk)

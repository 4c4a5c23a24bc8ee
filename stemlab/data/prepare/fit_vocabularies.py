"""Fit vocabularies of categorical fields and scaling of numerical columns on the training rows."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from stemlab.array_types import AnyArray, Int64Array, UInt8Array
from stemlab.data.io.arrow import as_numpy
from stemlab.data.io.progress import ProgressBars
from stemlab.data.prepare.column_cache import ColumnCache
from stemlab.data.prepare.preparation_settings import PreparationSettings
from stemlab.data.prepare.quantile_buckets import BucketEncoder, fit_buckets
from stemlab.data.prepare.scaling import Scaler
from stemlab.data.prepare.value_counts import count_values
from stemlab.data.prepare.vocabulary import IntegerEncoder, Vocabulary

Tokens = Mapping[str, Sequence[str]]


@dataclass(frozen=True, slots=True)
class FittedEncoders:
    """Encoders and scalers fitted on the training rows.

    Attributes:
        encoders: field -> encoder of raw integers to ids.
        sizes: field -> number of rows of its embedding table.
        scalers: numerical column -> fitted scaler.
        edges: field of quantile buckets -> their limits.
    """

    encoders: Mapping[str, IntegerEncoder | BucketEncoder]
    sizes: Mapping[str, int]
    scalers: Mapping[str, Scaler]
    edges: Mapping[str, tuple[float, ...]] = field(default_factory=dict)


def fit_encoders(
    directory: Path,
    cache: ColumnCache,
    codes: UInt8Array,
    config: PreparationSettings,
    tokens: Tokens,
    progress: ProgressBars,
) -> FittedEncoders:
    """Fit encoders and scalers on the training rows; write each vocabulary under ``directory/vocabulary``.

    Args:
        directory: directory of the preparation.
        cache: raw columns.
        codes: (R,) uint8 split codes; code 0 is train.
        config: settings of the preparation.
        tokens: column -> strings that its integers index; other columns have integer tokens.
        progress: progress bars.

    Raises:
        StemlabError: a numerical column has no value in any training row.
    """
    encoders: dict[str, IntegerEncoder | BucketEncoder] = {}
    sizes: dict[str, int] = {}
    edges: dict[str, tuple[float, ...]] = {}
    columns = len(config.fields) + len(config.numericals) + len(config.lists)
    advance = progress.rows("counting train rows", len(cache) * columns)
    for owner, names in config.vocabulary_columns.items():
        if owner in config.quantiles:
            rows = partial(_train_rows, cache, owner, codes)
            vocabulary, encoders[owner], edges[owner] = fit_buckets(
                owner, rows, config.quantiles[owner], config.min_count
            )
            vocabulary.save(directory / "vocabulary")
            sizes[owner] = vocabulary.size
            advance(len(cache))
            continue
        vocabulary, values = _vocabulary(owner, cache, codes, config, tokens)
        vocabulary.save(directory / "vocabulary")
        paddings = {config.padding_of(name) for name in names}
        # One encoder per padding value: an encoder may hold a lookup table of 512 MB.
        by_padding = {padding: IntegerEncoder(vocabulary, values, padding) for padding in paddings}
        for name in names:
            encoders[name] = by_padding[config.padding_of(name)]
            sizes[name] = vocabulary.size
            advance(len(cache))
    scalers = {}
    for column in config.numericals:
        scalers[column.name] = Scaler.fit(column.name, column.scaling, _train_rows(cache, column.name, codes))
        advance(len(cache))
    return FittedEncoders(encoders, sizes, scalers, edges)


def _vocabulary(
    owner: str, cache: ColumnCache, codes: UInt8Array, config: PreparationSettings, tokens: Tokens
) -> tuple[Vocabulary, Int64Array]:
    """Return the vocabulary of a field and of the fields that share it, with the raw integers of its tokens by id."""
    names = config.vocabulary_columns[owner]
    known = tokens.get(owner)
    if any(tokens.get(name) is not known for name in names):
        raise ValueError(f"{', '.join(names)} share a vocabulary, but their raw integers index different token lists")
    ranges = [cache.value_range(name) for name in names]
    value_range = (min(low for low, _ in ranges), max(high for _, high in ranges))
    values, counts = count_values(lambda: _training_values(names, cache, codes, config), value_range, config.min_count)
    if known is None:
        vocabulary = Vocabulary.fit(owner, values, counts, config.min_count)
        return vocabulary, as_numpy(pc.cast(vocabulary.tokens, pa.int64()))
    strings = _as_strings(known, values)
    vocabulary = Vocabulary.fit(owner, strings, counts, config.min_count)
    return vocabulary, values[as_numpy(pc.index_in(vocabulary.tokens, value_set=strings))]


def _as_strings(tokens: Sequence[str], values: Int64Array) -> Any:
    take = getattr(tokens, "take", None)  # Arrow-backed sequences look up all tokens in one call
    strings = take(values) if take else pa.array([tokens[value] for value in values], pa.string())
    return strings.combine_chunks() if isinstance(strings, pa.ChunkedArray) else strings


def _training_values(
    names: Sequence[str], cache: ColumnCache, codes: UInt8Array, config: PreparationSettings
) -> Iterator[Int64Array]:
    """Yield the training rows of all columns of a vocabulary, without padding values."""
    for name in names:
        padding = config.padding_of(name)
        for values in _train_rows(cache, name, codes):
            yield values if padding is None else values[values != padding]  # of lists: flat


def _train_rows(cache: ColumnCache, name: str, codes: UInt8Array) -> Iterator[AnyArray]:
    row = 0
    for chunk in cache.column(name):
        yield chunk[codes[row : row + len(chunk)] == 0]
        row += len(chunk)

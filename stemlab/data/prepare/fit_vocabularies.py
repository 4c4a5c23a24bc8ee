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
from stemlab.data.io.progress import Steps
from stemlab.data.prepare.column_cache import Spool
from stemlab.data.prepare.recipe import Recipe
from stemlab.data.prepare.scaling import Scaler
from stemlab.data.prepare.value_counts import count_values
from stemlab.data.prepare.vocabulary import IntegerEncoder, Vocabulary

Tokens = Mapping[str, Sequence[str]]


@dataclass(frozen=True, slots=True)
class Encoding:
    """How raw columns become stored ones.

    Attributes:
        encoders: field -> raw integers to ids.
        sizes: field -> embedding rows.
        scalers: numerical column -> its scaling.
    """

    encoders: Mapping[str, IntegerEncoder]
    sizes: Mapping[str, int]
    scalers: Mapping[str, Scaler]


def fit_encoding(
    directory: Path, spool: Spool, codes: UInt8Array, recipe: Recipe, tokens: Tokens, steps: Steps
) -> Encoding:
    """Return vocabularies and scaling of the training rows; the vocabularies are written."""
    encoders: dict[str, IntegerEncoder] = {}
    sizes: dict[str, int] = {}
    advance = steps.rows("counting train rows", len(spool) * (len(recipe.fields) + len(recipe.numericals)))
    for owner, names in recipe.tables.items():
        vocabulary, values = _vocabulary(owner, spool, codes, recipe, tokens)
        vocabulary.save(directory / "vocabulary")
        paddings = {recipe.padding.get(name) for name in names}
        made = {padding: IntegerEncoder(vocabulary, values, padding) for padding in paddings}  # tables may be large
        for name in names:
            encoders[name] = made[recipe.padding.get(name)]
            sizes[name] = vocabulary.size
            advance(len(spool))
    scalers = {}
    for column in recipe.numericals:
        scalers[column.name] = Scaler.fit(column.name, column.scaling, _train_rows(spool, column.name, codes))
        advance(len(spool))
    return Encoding(encoders, sizes, scalers)


def _vocabulary(
    owner: str, spool: Spool, codes: UInt8Array, recipe: Recipe, tokens: Tokens
) -> tuple[Vocabulary, Int64Array]:
    """Return the vocabulary of a field (and of those that share it) and the raw integers of its tokens, in id order."""
    names = recipe.tables[owner]
    known = tokens.get(owner)
    if any(tokens.get(name) is not known for name in names):
        raise ValueError(f"{', '.join(names)} share a vocabulary, but their integers stand for different tokens")
    spans = [spool.span(name) for name in names]
    span = (min(low for low, _ in spans), max(high for _, high in spans))
    values, counts = count_values(lambda: _training_values(names, spool, codes, recipe), span, recipe.min_count)
    if known is None:
        vocabulary = Vocabulary.fit(owner, values, counts, recipe.min_count)
        return vocabulary, as_numpy(pc.cast(vocabulary.tokens, pa.int64()))
    words = _words(known, values)
    vocabulary = Vocabulary.fit(owner, words, counts, recipe.min_count)
    return vocabulary, values[as_numpy(pc.index_in(vocabulary.tokens, value_set=words))]


def _words(tokens: Sequence[str], values: Int64Array) -> Any:
    take = getattr(tokens, "take", None)  # an Arrow-backed sequence finds millions of tokens at once
    words = take(values) if take else pa.array([tokens[value] for value in values], pa.string())
    return words.combine_chunks() if isinstance(words, pa.ChunkedArray) else words


def _training_values(names: Sequence[str], spool: Spool, codes: UInt8Array, recipe: Recipe) -> Iterator[Int64Array]:
    """Yield the columns of a vocabulary one after the other, without what stands for nothing."""
    for name in names:
        nothing = recipe.padding.get(name)
        for values in _train_rows(spool, name, codes):
            yield values if nothing is None else values[values != nothing]


def _train_rows(spool: Spool, name: str, codes: UInt8Array) -> Iterator[AnyArray]:
    row = 0
    for chunk in spool.column(name):
        yield chunk[codes[row : row + len(chunk)] == 0]
        row += len(chunk)

"""Vocabularies of categorical fields: token -> id, the row of the embedding table.

Ids follow the tokenizer of STEM's released code (``docs/methods/datasets.md#common-rules``): tokens with at least
``min_count`` training rows get ids from 1 by descending count, ties in string order; 0 is padding; the last id is
out-of-vocabulary (OOV), for rare, unseen and missing tokens. The token of an integer is its decimal form.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from stemlab.array_types import AnyArray, Int32Array, Int64Array
from stemlab.data.io.arrow import as_arrow, as_numpy, inexact_integers, whole_floats_as_integers
from stemlab.errors import StemlabError

DENSE_SPAN = 1 << 27  # widest integer range with a direct lookup table (512 MB); wider ones use binary search


@dataclass(frozen=True, eq=False)
class Vocabulary:
    """The tokens of one field in id order.

    Attributes:
        field: name of the field.
        tokens: (V,) Arrow string array; the token of id ``i`` is ``tokens[i - 1]``.
        counts: (V,) Arrow int64 array of training rows.
    """

    field: str
    tokens: Any
    counts: Any

    @property
    def size(self) -> int:
        """Rows of the embedding table: tokens, padding and out-of-vocabulary."""
        return len(self.tokens) + 2

    @property
    def oov(self) -> int:
        """Id of rare, unseen and missing tokens."""
        return len(self.tokens) + 1

    @classmethod
    def fit(cls, field: str, tokens: Any, counts: Any, min_count: int) -> Vocabulary:
        """Assign ids to distinct tokens by their training counts.

        Args:
            field: name of the field.
            tokens: distinct tokens, strings or integers; the empty string is a missing value and gets no id.
            counts: number of training rows of each token.
            min_count: smallest count that gets an id.
        """
        strings, numbers = pc.cast(_array(tokens), pa.string()), pc.cast(_array(counts), pa.int64())
        enough = as_numpy(numbers) >= min_count
        given = as_numpy(pc.binary_length(strings)) > 0
        table = pa.Table.from_arrays([strings, numbers], names=["token", "count"])
        kept = table.take(as_arrow(np.flatnonzero(enough & given)))
        kept = kept.sort_by([("count", "descending"), ("token", "ascending")])
        return cls(field, _array(kept["token"]), _array(kept["count"]))

    def encode(self, values: Any) -> Int32Array:
        """Return the ids of raw values.

        Args:
            values: Arrow or numpy column of strings, integers or whole floats; nulls are missing.

        Returns:
            (B,) int32 ids.

        Raises:
            StemlabError: a value cannot be a token (fractions, nested values).
        """
        found = pc.index_in(as_tokens(self.field, values), value_set=self.tokens)
        return as_numpy(pc.add(pc.fill_null(found, len(self.tokens)), pa.scalar(1, pa.int32())))

    def save(self, directory: Path) -> Path:
        """Write ``<field>.parquet`` (token, count; in id order from 1)."""
        directory.mkdir(parents=True, exist_ok=True)
        path = directory / f"{self.field}.parquet"
        pq.write_table(pa.Table.from_arrays([self.tokens, self.counts], names=["token", "count"]), path)
        return path

    @classmethod
    def load(cls, directory: Path, field: str) -> Vocabulary:
        """Read a vocabulary written by :meth:`save`.

        Raises:
            StemlabError: the file is missing or damaged.
        """
        path = directory / f"{field}.parquet"
        try:
            table = pq.read_table(path)
        except (OSError, pa.ArrowInvalid) as error:
            raise StemlabError(f"vocabulary {path} cannot be read ({error}); prepare the dataset again.") from error
        return cls(field, _array(table["token"]), _array(table["count"]))


class IntegerEncoder:
    """Fast equivalent of :meth:`Vocabulary.encode` for raw integers.

    Args:
        vocabulary: the field's vocabulary.
        values: (V,) the raw integers of its tokens, in id order.
        padding: raw integer that encodes padding and becomes id 0, or ``None``.
    """

    def __init__(self, vocabulary: Vocabulary, values: Int64Array, padding: int | None = None) -> None:
        self._padding = padding
        self._oov = np.int32(vocabulary.oov)
        ids = np.arange(1, len(values) + 1, dtype=np.int32)
        self._low = int(values.min()) if len(values) else 0
        span = int(values.max()) - self._low + 1 if len(values) else 0
        self._lookup: Int32Array | None = None
        if span <= DENSE_SPAN and abs(self._low) < 1 << 62:
            self._lookup = np.full(span + 2, self._oov, dtype=np.int32)  # one OOV entry at either end
            self._lookup[values - self._low + 1] = ids
        else:
            order = np.argsort(values)
            self._values, self._ids = values[order], ids[order]

    def __call__(self, values: AnyArray) -> Int32Array:
        """Return the ids of raw integers, (B,) int64 -> (B,) int32."""
        ids = self._look_up(values)
        return ids if self._padding is None else np.where(values == self._padding, np.int32(0), ids)

    def _look_up(self, values: AnyArray) -> Int32Array:
        if self._lookup is not None:
            # Values outside the range (also after integer overflow of the difference) are clipped to the OOV entries.
            index = np.subtract(values, self._low - 1, dtype=np.int64)
            ids: Int32Array = self._lookup.take(index, mode="clip")
            return ids
        index = np.searchsorted(self._values, values).clip(max=len(self._values) - 1)
        return np.where(self._values[index] == values, self._ids[index], self._oov)


def as_tokens(field: str, values: Any) -> Any:
    """Return a column as Arrow strings in the form of tokens (5, 5.0 and the text 5.0 become "5").

    Raises:
        StemlabError: values cannot be tokens, or are integers that their float dtype does not hold exactly.
    """
    column = _array(values)
    if inexact_integers(column).any():
        raise StemlabError(
            f"column {field!r} holds ids above the largest integer that {column.type} holds exactly: store it as "
            "integers or text."
        )
    try:
        if pa.types.is_floating(column.type):
            column = pc.cast(pc.if_else(pc.is_nan(column), None, column), pa.int64())
        if pa.types.is_dictionary(column.type):
            column = column.dictionary_decode()
        return whole_floats_as_integers(pc.cast(column, pa.string()))
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        raise StemlabError(
            f"column {field!r} holds {column.type} values, which cannot be category ids ({error}): "
            "give integers or strings."
        ) from error


def _array(values: Any) -> Any:
    if isinstance(values, pa.ChunkedArray):
        return values.combine_chunks()
    if isinstance(values, np.ndarray) and values.dtype == np.int64:
        return as_arrow(values)
    return values if isinstance(values, pa.Array) else pa.array(values)

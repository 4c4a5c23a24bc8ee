"""Id maps of categorical fields: token -> embedding row.

The published convention (spec of the STEM repository's tokenizer): tokens with at least ``min_count`` training rows get
ids from 1 in the order of descending count, ties by string order; 0 is padding; the last id is out-of-vocabulary and
takes rare, unseen and missing tokens. Integers are tokens by their decimal form.
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
from stemlab.data.io.arrow import as_arrow, as_numpy
from stemlab.errors import StemlabError

DENSE_SPAN = 1 << 27  # widest range of integers that gets a direct table (512 MB); others are looked up by bisection


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
        """Embedding rows: tokens, padding and out-of-vocabulary."""
        return len(self.tokens) + 2

    @property
    def oov(self) -> int:
        """Id of rare, unseen and missing tokens."""
        return len(self.tokens) + 1

    @classmethod
    def fit(cls, field: str, tokens: Any, counts: Any, min_count: int) -> Vocabulary:
        """Order distinct tokens with their training counts into ids.

        Args:
            field: name of the field.
            tokens: distinct tokens, strings or integers; the empty string is a missing value and gets no id.
            counts: training rows of each.
            min_count: least count that gets an id.
        """
        words, numbers = pc.cast(_array(tokens), pa.string()), pc.cast(_array(counts), pa.int64())
        enough = as_numpy(numbers) >= min_count
        given = as_numpy(pc.binary_length(words)) > 0
        table = pa.Table.from_arrays([words, numbers], names=["token", "count"])
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
            StemlabError: the values can be no tokens (fractions, nested values).
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
        """Read what :meth:`save` wrote; raise StemlabError where it is missing or damaged."""
        path = directory / f"{field}.parquet"
        try:
            table = pq.read_table(path)
        except (OSError, pa.ArrowInvalid) as error:
            raise StemlabError(f"vocabulary {path} cannot be read ({error}); prepare the dataset again.") from error
        return cls(field, _array(table["token"]), _array(table["count"]))


class IntegerEncoder:
    """Fast path of :meth:`Vocabulary.encode` for raw integers; same ids.

    Args:
        vocabulary: the field's vocabulary.
        values: (V,) the raw integers of its tokens, in id order.
        padding: raw integer that stands for nothing and becomes id 0, if there is one.
    """

    def __init__(self, vocabulary: Vocabulary, values: Int64Array, padding: int | None = None) -> None:
        self._padding = padding
        self._oov = np.int32(vocabulary.oov)
        ids = np.arange(1, len(values) + 1, dtype=np.int32)
        self._low = int(values.min()) if len(values) else 0
        span = int(values.max()) - self._low + 1 if len(values) else 0
        self._table: Int32Array | None = None
        if span <= DENSE_SPAN and abs(self._low) < 1 << 62:
            self._table = np.full(span + 2, self._oov, dtype=np.int32)  # one out-of-vocabulary entry at either end
            self._table[values - self._low + 1] = ids
        else:
            order = np.argsort(values)
            self._values, self._ids = values[order], ids[order]

    def __call__(self, values: AnyArray) -> Int32Array:
        """Return the (B,) int32 ids of (B,) integers."""
        ids = self._look_up(values)
        return ids if self._padding is None else np.where(values == self._padding, np.int32(0), ids)

    def _look_up(self, values: AnyArray) -> Int32Array:
        if self._table is not None:
            # Values outside (also those whose difference wraps around) are clipped to the entries at either end.
            place = np.subtract(values, self._low - 1, dtype=np.int64)
            ids: Int32Array = self._table.take(place, mode="clip")
            return ids
        place = np.searchsorted(self._values, values).clip(max=len(self._values) - 1)
        return np.where(self._values[place] == values, self._ids[place], self._oov)


def as_tokens(field: str, values: Any) -> Any:
    """Return a column as an Arrow string array in the tokens' form (5 and 5.0 are "5")."""
    column = _array(values)
    try:
        if pa.types.is_floating(column.type):
            column = pc.cast(pc.if_else(pc.is_nan(column), None, column), pa.int64())
        if pa.types.is_dictionary(column.type):
            column = column.dictionary_decode()
        return pc.cast(column, pa.string())
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        raise StemlabError(
            f"column {field!r} holds {column.type} values that are no category ids ({error}): give integers or strings."
        ) from error


def _array(values: Any) -> Any:
    if isinstance(values, pa.ChunkedArray):
        return values.combine_chunks()
    if isinstance(values, np.ndarray) and values.dtype == np.int64:
        return as_arrow(values)
    return values if isinstance(values, pa.Array) else pa.array(values)

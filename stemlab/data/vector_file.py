"""Vectors of a file, in the order of the ids of a vocabulary.

Legend: R rows of the file that are used, V ids of the vocabulary, P width of a vector.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from stemlab.array_types import AnyArray, Float32Array, Int64Array
from stemlab.data.io.arrow import as_numpy
from stemlab.data.prepare.vocabulary import as_tokens
from stemlab.errors import StemlabError

_BLOCK_ROWS = 1 << 14
_SHOWN = 3


@dataclass(frozen=True, slots=True)
class VectorFile:
    """Where vectors and their ids are.

    Attributes:
        key: the setting, for messages.
        path: ``.npy`` (rows, P), or ``.parquet``.
        ids: of ``.npy``, a ``.npy`` or text file with one id per row; of ``.parquet``, the column of the ids.
        column: of ``.parquet``, the column of the vectors; ``None`` if it is the only column of lists of floats.
    """

    key: str
    path: Path
    ids: str | None
    column: str | None


@dataclass(frozen=True, eq=False)
class AlignedVectors:
    """Vectors of a vocabulary.

    Attributes:
        ids_R: ids that have a vector, in the order of the file; from 1.
        rows_RP: their vectors.
        size: V.
        others: rows of the file whose id is not in the vocabulary.
    """

    ids_R: Int64Array
    rows_RP: Float32Array
    size: int
    others: int


def vector_width(source: VectorFile) -> int:
    """Return P.

    Raises:
        StemlabError: the file cannot be read, or has no vectors of floats.
    """
    if source.path.suffix == ".npy":
        return int(_array(source).shape[1])
    file, _, column = _parquet(source)
    kind = file.schema_arrow.field(column).type
    if pa.types.is_fixed_size_list(kind):
        return int(kind.list_size)
    for batch in file.iter_batches(_BLOCK_ROWS, columns=[column]):
        lengths = pc.list_value_length(batch.column(0)).drop_null()
        if len(lengths):
            return int(lengths[0].as_py())
    raise _refused(source, f"column {column!r} has no vectors")


def read_vectors(source: VectorFile, tokens: Any, width: int) -> AlignedVectors:
    """Return the vectors of the tokens of a vocabulary; other rows of the file are not checked.

    Args:
        source: the file.
        tokens: (V,) Arrow strings; the token of id ``i`` is ``tokens[i - 1]``.
        width: P.

    Raises:
        StemlabError: the file cannot be read or has vectors of another width, a vector is not finite, an id occurs
            twice, or no id is in the vocabulary.
    """
    found: list[Int64Array] = []
    rows: list[Float32Array] = []
    first: list[str] = []
    row_V = np.zeros(len(tokens) + 1, dtype=np.int64)  # row of the file of each id, from 1
    done = 0
    for names, vectors in _blocks(source, width):
        index = pc.index_in(names, value_set=tokens)
        used_R = np.flatnonzero(as_numpy(pc.cast(pc.is_valid(index), pa.int8())))
        ids_R = as_numpy(pc.cast(index.drop_null(), pa.int64())) + 1
        first = first or names.slice(0, _SHOWN).to_pylist()
        number_R = done + used_R + 1
        earlier_R = row_V[ids_R]
        row_V[ids_R] = number_R
        again_R = (earlier_R > 0) | (row_V[ids_R] != number_R)  # in an earlier block, or later in this one
        if again_R.any():
            place = int(np.argmax(again_R))
            two = sorted({int(number_R[place]), int(earlier_R[place]), int(row_V[ids_R[place]])} - {0})
            name = tokens[int(ids_R[place]) - 1].as_py()
            raise _refused(source, f"rows {two[0]} and {two[-1]} have the same id {name!r}: keep one of them")
        rows.append(_checked(source, vectors(used_R), width, number_R))
        found.append(ids_R)
        done += len(names)
    ids_R = np.concatenate(found) if found else np.empty(0, dtype=np.int64)
    if not done:
        raise _refused(source, "it has no rows")
    if not len(ids_R):
        known = ", ".join(map(repr, tokens.slice(0, _SHOWN).to_pylist()))
        raise _refused(source, f"none of its ids ({', '.join(map(repr, first))}, …) is one of the field ({known}, …)")
    return AlignedVectors(ids_R, np.concatenate(rows), len(tokens), done - len(ids_R))


def _checked(source: VectorFile, vectors: Any, width: int, row_R: Int64Array) -> Float32Array:
    """Return the vectors as (R, P) float32.

    Args:
        source: the file.
        vectors: array (R, P), or an Arrow array of lists.
        width: P.
        row_R: rows of the file, for messages.
    """
    if not isinstance(vectors, np.ndarray):
        lengths = as_numpy(pc.fill_null(pc.list_value_length(vectors), -1))
        for place in np.flatnonzero(lengths != width):
            has = "no vector" if lengths[place] < 0 else f"a vector of {lengths[place]} numbers"
            raise _refused(source, f"row {row_R[place]} has {has}, not of {width}")
        vectors = np.asarray(vectors.flatten().to_numpy(zero_copy_only=False)).reshape(-1, width)
    with np.errstate(over="ignore"):
        rows_RP: Float32Array = vectors.astype(np.float32)
    bad_R = ~np.isfinite(rows_RP).all(axis=1)
    if bad_R.any():
        raise _refused(source, f"the vector in row {row_R[int(np.argmax(bad_R))]} has a number that is not finite")
    return rows_RP


def _blocks(source: VectorFile, width: int) -> Iterator[tuple[Any, Any]]:
    """Yield ids of consecutive rows (Arrow strings), and a function that returns the vectors at places of them."""
    if source.path.suffix == ".npy":
        array, ids = _array(source), _ids_of_array(source)
        if len(ids) != len(array):
            raise _refused(source, f"it has {len(array):,} rows, but {source.ids} has {len(ids):,} ids")
        if array.shape[1] != width:
            raise _refused(source, f"its vectors have {array.shape[1]} numbers, not {width}")
        for start in range(0, len(array), _BLOCK_ROWS):
            block = array[start : start + _BLOCK_ROWS]
            yield ids.slice(start, _BLOCK_ROWS), block.__getitem__
        return
    file, name, column = _parquet(source)
    for batch in file.iter_batches(_BLOCK_ROWS, columns=[name, column]):
        vectors = batch.column(column)
        yield as_tokens(name, batch.column(name)), lambda used_R, of=vectors: of.take(pa.array(used_R))


def _array(source: VectorFile) -> AnyArray:
    array = _load(source, source.path)
    if array.ndim != 2 or not np.issubdtype(array.dtype, np.floating):
        raise _refused(source, f"it holds {array.dtype} of shape {array.shape}, not floats of shape (rows, width)")
    return array


def _ids_of_array(source: VectorFile) -> Any:
    if source.ids is None:
        raise _refused(source, "ids is not set: name a .npy or text file with one id per row")
    path = Path(source.ids)
    if path.suffix == ".npy":
        array = _load(source, path)
        if array.ndim != 1 or array.dtype.kind not in "iuU":
            raise _refused(
                source, f"{path} holds {array.dtype} of shape {array.shape}, not integers or text of (rows,)"
            )
        return as_tokens(path.name, pa.array(array.astype(array.dtype.newbyteorder("="))))
    try:
        return as_tokens(path.name, pa.array(path.read_text(encoding="utf-8").splitlines(), pa.string()))
    except (OSError, UnicodeDecodeError) as error:
        raise _refused(source, f"{path} cannot be read ({error})") from None


def _load(source: VectorFile, path: Path) -> AnyArray:
    try:
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    except (EOFError, OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        reason = "it is not an array of numbers saved with numpy.save" if "pickle" in str(error) else reason
        raise _refused(source, f"{'it' if path == source.path else path} cannot be read ({reason})") from None
    if not isinstance(array, np.ndarray):
        raise _refused(source, f"{path} is an archive of arrays (.npz): save the one array with numpy.save")
    return array


def _parquet(source: VectorFile) -> tuple[pq.ParquetFile, str, str]:
    """Return the open file, the column of the ids and that of the vectors."""
    try:
        file = pq.ParquetFile(source.path)
    except (OSError, pa.ArrowException) as error:
        raise _refused(source, f"it cannot be read ({' '.join(str(error).split())[:200]})") from None
    fields = {field.name: field.type for field in file.schema_arrow}
    lists = [name for name, kind in fields.items() if _is_vector(kind)]
    if not lists:
        raise _refused(source, f"none of its columns holds lists of floats: {', '.join(fields)}")
    for name, what in ((source.ids, "ids"), (source.column, "column")):
        if name is None and (what == "ids" or len(lists) != 1):
            raise _refused(source, f"{what} is not set: name one of its columns {', '.join(fields)}")
        if name is not None and name not in fields:
            raise _refused(source, f"it has no column {name!r} ({what}): {', '.join(fields)}")
    assert source.ids is not None
    column = source.column or lists[0]
    if column not in lists:
        raise _refused(source, f"column {column!r} holds {fields[column]}, not lists of floats")
    return file, source.ids, column


def _is_vector(kind: Any) -> bool:
    is_list = pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind)
    return bool(is_list and pa.types.is_floating(kind.value_type))


def _refused(source: VectorFile, problem: str) -> StemlabError:
    return StemlabError(f"{source.key}: {source.path}: {problem}.")

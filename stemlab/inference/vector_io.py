"""Write vectors with their ids, batch by batch.

``.parquet``: one row per vector, with columns ``user``, ``interest`` (from 0) and ``vector`` (a list of D float32), or
``item`` and ``vector``. ``.npz`` (``numpy.load``): arrays ``user`` (text) and ``vector`` (users, K, D), or ``item`` and
``vector`` (items, D).

Legend: B ids of a batch, K vectors per user, D embedding width.
"""

from __future__ import annotations

import zipfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, Protocol

import numpy as np
import pyarrow as pa

from stemlab.array_types import Float32Array
from stemlab.data.io.output_file import complete_file, write_errors
from stemlab.errors import StemlabError
from stemlab.inference.table_io import table_writer

SUFFIXES = (".parquet", ".npz")


class VectorWriter(Protocol):
    """Function that appends ids and their vectors: (B, D), or (B, K, D) for K vectors per id."""

    def __call__(self, ids: Sequence[str], vectors: Float32Array) -> None:
        """Append a batch."""


def check_vector_path(key: str, path: Path) -> None:
    """Raise StemlabError if the suffix is not supported; ``key`` is the config key of the file."""
    if path.suffix not in SUFFIXES:
        raise StemlabError(f"{key}={path} must end in {' or '.join(SUFFIXES)}.")


@contextmanager
def vector_writer(path: Path, name: str, count: int) -> Iterator[VectorWriter]:
    """Yield a function that writes vectors to a file, which appears only when it is complete.

    Args:
        path: ``.parquet`` or ``.npz``.
        name: name of the id column: ``user`` or ``item``.
        count: total number of ids.

    Raises:
        StemlabError: the file has another suffix.
    """
    check_vector_path(name, path)
    if path.suffix == ".parquet":
        with table_writer(path) as write_table:
            yield lambda ids, vectors: write_table(_table(name, ids, vectors))
        return
    with complete_file(path) as part, write_errors(path), zipfile.ZipFile(part, "w", allowZip64=True) as archive:
        written_ids: list[str] = []
        with archive.open("vector.npy", "w", force_zip64=True) as file:
            yield _array_writer(file, written_ids, count)
        with archive.open(f"{name}.npy", "w", force_zip64=True) as file:
            np.lib.format.write_array(file, np.array(written_ids, dtype=np.str_))


def _array_writer(file: IO[bytes], written_ids: list[str], count: int) -> VectorWriter:
    """Return a function that appends to an ``.npy`` array; its header is written with the first batch."""

    def write(ids: Sequence[str], vectors: Float32Array) -> None:
        if not written_ids:
            header = {"descr": "<f4", "fortran_order": False, "shape": (count, *vectors.shape[1:])}
            np.lib.format.write_array_header_2_0(file, header)
        file.write(np.ascontiguousarray(vectors, dtype="<f4").tobytes())
        written_ids.extend(ids)

    return write


def _table(name: str, ids: Sequence[str], vectors: Float32Array) -> Any:
    """Return an Arrow table with one row per vector."""
    width = vectors.shape[-1]
    columns: dict[str, Any] = {name: pa.array(ids, pa.string())}
    if vectors.ndim == 3:
        interests = vectors.shape[1]
        columns = {
            name: pa.array(np.repeat(np.array(ids, dtype=object), interests), pa.string()),
            "interest": pa.array(np.tile(np.arange(interests, dtype=np.int32), len(ids))),
        }
    flat = pa.array(np.ascontiguousarray(vectors, dtype=np.float32).reshape(-1))
    columns["vector"] = pa.FixedSizeListArray.from_arrays(flat, width)
    return pa.table(columns)

"""Data frames of pandas and polars as Arrow tables and back; a snapshot of a table in a Parquet file."""

from __future__ import annotations

import hashlib
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from stemlab.data.io.output_file import write_errors
from stemlab.errors import StemlabError

_WIDE = {pa.large_string(): pa.string(), pa.string_view(): pa.string(), pa.large_binary(): pa.binary()}


def arrow_table(frame: Any) -> pa.Table:
    """Return a data frame (pandas, polars, or anything with the Arrow C stream interface) as an Arrow table.

    The index of a pandas frame is left out, and NaN is a missing value. Equal content has equal types, whatever the
    library.

    Raises:
        StemlabError: the object is no data frame, a column mixes types, or two columns have the same name.
    """
    kind = type(frame).__module__.partition(".")[0]
    if kind == "pandas" and not hasattr(frame, "columns"):
        raise StemlabError(f"{type(frame).__name__} is not a data frame: frame.loc[[label]] selects rows of one.")
    _check_names(list(getattr(frame, "columns", ())) if kind == "pandas" else [])
    try:
        if isinstance(frame, pa.RecordBatch):
            table = pa.Table.from_batches([frame])
        elif kind == "pandas":
            table = pa.Table.from_pandas(_named(frame), preserve_index=False)
        else:
            table = frame if isinstance(frame, pa.Table) else pa.table(frame)
    except (pa.ArrowInvalid, pa.ArrowTypeError, pa.ArrowNotImplementedError) as error:
        reason = " ".join(str(error).split())[:200]
        raise StemlabError(
            f"the data frame cannot be converted to Arrow ({reason}): give its columns one type."
        ) from None
    except (TypeError, ValueError):
        hint = " (call its method collect() first)" if hasattr(frame, "collect") else ""
        raise StemlabError(
            f"{type(frame).__name__} is not a data frame{hint}: give a pandas or polars frame, or an Arrow table."
        ) from None
    _check_names(table.column_names)
    fields = [pa.field(field.name, _plain_type(field.type)) for field in table.schema]
    return table.replace_schema_metadata(None).cast(pa.schema(fields))


def _check_names(names: list[Any]) -> None:
    repeated = [name for name in names if names.count(name) > 1]
    if repeated:
        raise StemlabError(f"the data frame has several columns {repeated[0]!r}: rename them.")


def _named(frame: Any) -> Any:
    """Return a pandas frame whose column names are texts."""
    return frame if all(isinstance(name, str) for name in frame.columns) else frame.rename(columns=str)


def _plain_type(kind: pa.DataType) -> pa.DataType:
    """Return the usual one of several Arrow types for the same values; categories become their values."""
    if pa.types.is_dictionary(kind):
        return _plain_type(kind.value_type)
    if pa.types.is_large_list(kind) or pa.types.is_list(kind):
        return pa.list_(_plain_type(kind.value_type))
    return _WIDE.get(kind, kind)


def frame_like(table: pa.Table, frame: Any) -> Any:
    """Return an Arrow table as a data frame of the library of ``frame`` (``None``: pandas), with its index."""
    kind = "pandas" if frame is None else type(frame).__module__.partition(".")[0]
    if kind == "polars":
        return sys.modules["polars"].from_arrow(table)
    if kind != "pandas":
        return table
    found = _to_pandas(table)
    if frame is not None and len(found) == len(frame):
        found.index = frame.index
    return found


def _to_pandas(table: pa.Table) -> Any:
    """Return a pandas frame in which integers beside a null are nullable (``Int64``); floats would round large ids."""
    found = table.to_pandas(integer_object_nulls=True)
    for name, column in zip(table.column_names, table.columns, strict=True):
        if pa.types.is_integer(column.type) and column.null_count:
            found[name] = found[name].astype(str(column.type).replace("u", "U").replace("i", "I"))
    return found


def snapshot(table: pa.Table, folder: Path) -> Path:
    """Return a Parquet file with the table, named by its content; an existing file is not written again.

    Raises:
        StemlabError: the table has no rows, or the file cannot be written.
    """
    if not table.num_rows:
        raise StemlabError("the data frame has no rows.")
    with write_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=folder, prefix=".frame-", suffix=".parquet", delete=False) as file:
            part = Path(file.name)
        try:
            pq.write_table(table, part)
            with part.open("rb") as written:
                digest = hashlib.file_digest(written, "sha256").hexdigest()
            final = folder / f"{digest[:16]}.parquet"
            if final.exists():
                return final
            os.replace(part, final)
            return final
        finally:
            part.unlink(missing_ok=True)

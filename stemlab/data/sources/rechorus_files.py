"""Read one file in the ReChorus format (docs/methods/datasets.md#rechorus-format).

Legend: R rows, N negatives per row.
"""

from __future__ import annotations

import io
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv

from stemlab.array_types import Int64Array
from stemlab.data.io.progress import Advance
from stemlab.data.io.text_blocks import read_blocks, refuse_bare_returns
from stemlab.errors import StemlabError

INTEGER_COLUMNS = ("user_id", "item_id", "time")
NEG_ITEMS = "neg_items"
_LIST = re.compile(r"\[\s*\d{1,18}(\s*,\s*\d{1,18})*\s*\]")


@dataclass(frozen=True, slots=True)
class RechorusFile:
    """Contents of one file.

    Attributes:
        path: the file.
        columns: user_id, item_id, time -> (R,) int64.
        negatives: (R, N) int64, or ``None`` if the file has no neg_items.
    """

    path: Path
    columns: Mapping[str, Int64Array]
    negatives: Int64Array | None


def read_part(path: Path, *, evaluated: bool, advance: Advance) -> RechorusFile:
    """Read one file.

    Args:
        path: the file.
        evaluated: whether it is dev or test, whose ``neg_items`` are read if present.
        advance: called with the number of bytes consumed.

    Raises:
        StemlabError: a column is missing, or a line is invalid (the first one is named).
    """
    text = b"".join(block.data for block in read_blocks(path, path.name, advance))
    refuse_bare_returns(path, text, 1)
    header = text[: text.find(b"\n") if b"\n" in text else len(text)].decode("utf-8", "replace").strip("\r").split("\t")
    missing = [name for name in INTEGER_COLUMNS if name not in header]
    if missing:
        raise StemlabError(
            f"{path}, line 1: the column {missing[0]!r} is missing (tab-separated header: {', '.join(header)}); "
            f"the columns must be named {', '.join(INTEGER_COLUMNS)}."
        )
    wanted = [*INTEGER_COLUMNS, *([NEG_ITEMS] if evaluated and NEG_ITEMS in header else [])]
    try:
        table = pa.csv.read_csv(
            io.BytesIO(text),
            parse_options=pa.csv.ParseOptions(delimiter="\t", quote_char=False),
            convert_options=pa.csv.ConvertOptions(
                include_columns=wanted,
                column_types={name: pa.string() if name == NEG_ITEMS else pa.int64() for name in wanted},
                strings_can_be_null=False,
                null_values=[],
            ),
        )
    except pa.ArrowInvalid as error:
        raise _bad_line(path, text, header, wanted, str(error)) from None
    columns = {name: table.column(name).to_numpy() for name in INTEGER_COLUMNS}
    _check_rows(path, columns)
    return RechorusFile(path, columns, _parse_lists(path, table.column(NEG_ITEMS)) if NEG_ITEMS in wanted else None)


def _check_rows(path: Path, columns: Mapping[str, Int64Array]) -> None:
    if not len(columns["time"]):
        raise StemlabError(f"{path} has a header but no rows; add interactions.")
    for name in ("user_id", "item_id"):
        invalid = np.flatnonzero(columns[name] < 1)
        if len(invalid):
            raise StemlabError(
                f"{path}, line {invalid[0] + 2}: {name} is {columns[name][invalid[0]]}; ids are integers from 1."
            )


def _bad_line(path: Path, text: bytes, header: Sequence[str], wanted: Sequence[str], error: str) -> StemlabError:
    """Return the error for the first line that Arrow cannot parse."""
    positions = [(name, header.index(name)) for name in wanted if name != NEG_ITEMS]
    for number, line in enumerate(text.removesuffix(b"\n").decode("utf-8", "replace").split("\n")[1:], start=2):
        cells = line.removesuffix("\r").split("\t")
        if len(cells) != len(header):
            return StemlabError(
                f"{path}, line {number}: {len(cells)} columns instead of {len(header)}; correct the line."
            )
        for name, index in positions:
            if not re.fullmatch(r"-?[0-9]{1,18}", cells[index]):
                return StemlabError(
                    f"{path}, line {number}: {name} is {cells[index]!r}, not an integer; correct the line."
                )
    return StemlabError(f"{path} cannot be read ({error}).")


def _parse_lists(path: Path, column: pa.ChunkedArray) -> Int64Array:
    """Return bracketed lists of equal length as a matrix (R, N)."""
    valid = pc.match_substring_regex(column, f"^{_LIST.pattern}$")
    if not pc.all(valid).as_py():
        row = int(np.flatnonzero(~valid.to_numpy())[0])
        raise StemlabError(f"{path}, line {row + 2}: {NEG_ITEMS} is not a list like [3, 1, 2]; correct the line.")
    counts = pc.add(pc.count_substring(column, ","), 1).to_numpy()
    different = np.flatnonzero(counts != counts[0])
    if len(different):
        row = different[0]
        raise StemlabError(
            f"{path}, line {row + 2}: {NEG_ITEMS} has {counts[row]} items, but line 2 has {counts[0]}; "
            "all rows must have the same number."
        )
    joined = ",".join(pc.utf8_trim(column, "[] ").to_pylist())
    return np.fromstring(joined, dtype=np.int64, sep=",").reshape(len(counts), -1)

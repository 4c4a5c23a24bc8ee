"""Formats of interaction logs: which one a file or folder has, and the files that belong to it."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from stemlab.data.io.text_blocks import read_blocks
from stemlab.data.sources.item_categories import find_meta_file
from stemlab.data.sources.rechorus import find_parts
from stemlab.data.table.file import SEPARATORS, TableFile, TextTable, open_table
from stemlab.errors import StemlabError

InteractionFormat = Literal["table", "recbole", "lines", "rechorus"]
INTER, ITEM = ".inter", ".item"
_TYPE = re.compile(r":(token|token_seq|float|float_seq)$")
_PACKED = (".gz", ".zip")


@dataclass(frozen=True, slots=True)
class InteractionFiles:
    """Files of a log.

    Attributes:
        format: format of the log.
        log: the file, or the folder of a ReChorus dataset.
        items: table of items with categories, if there is one.
        all: all files that are read.
    """

    format: InteractionFormat
    log: Path
    items: Path | None
    all: Sequence[Path]


def find_log_files(
    path: str | None,
    raw_dir: Path | None,
    form: Literal["auto"] | InteractionFormat,
    item_file: str | None,
    named: bool,
) -> InteractionFiles:
    """Return the files of a log.

    Args:
        path: the file or folder (``dataset.path``).
        raw_dir: folder of the file, replacing the folder of ``path``.
        form: the format; ``auto`` recognises it.
        item_file: table of items, in the folder of the log or a path.
        named: whether the columns of a text file without a header are named.

    Raises:
        StemlabError: a file does not exist, or the format is not recognised.
    """
    found = _find(path, raw_dir)
    kind = form if form != "auto" else _folder_format(found) if found.is_dir() else _file_format(found, named)
    if kind == "rechorus":
        if not found.is_dir():
            raise StemlabError(f"dataset.format=rechorus needs the folder of train, dev and test, not {found}.")
        meta = find_meta_file(found)
        return InteractionFiles(kind, found, meta, [*find_parts(found).values(), *([] if meta is None else [meta])])
    if found.is_dir():
        found = _inter_file(found) if kind == "recbole" else found
    if found.is_dir():
        raise StemlabError(f"dataset.path={found} is a folder: name the file of the log in it.")
    items = _item_file(found, kind, item_file)
    return InteractionFiles(kind, found, items, [found] if items is None else [found, items])


def _find(path: str | None, raw_dir: Path | None) -> Path:
    if path is None and raw_dir is None:
        raise StemlabError("dataset.path is not set: name the file or folder of the log, dataset.path=log.csv.")
    found = Path(path) if path is not None else Path(raw_dir or ".")
    if path is not None and raw_dir is not None:
        found = raw_dir if found.is_dir() else raw_dir / found.name
    if not found.exists():
        raise StemlabError(f"dataset.path={found} does not exist: name the file or folder of an interaction log.")
    return found


def _folder_format(folder: Path) -> InteractionFormat:
    if any(folder.glob(f"*{INTER}")):
        return "recbole"
    if any(folder.glob("train*.csv*")) and any(folder.glob("test*.csv*")):
        return "rechorus"
    raise StemlabError(
        f"{folder} holds neither a RecBole file (.inter) nor train, dev and test in the ReChorus format: set "
        "dataset.path to the file of the log."
    )


def _inter_file(folder: Path) -> Path:
    found = sorted(folder.glob(f"*{INTER}"))
    if len(found) != 1:
        names = ", ".join(path.name for path in found[:5]) or "no .inter file"
        raise StemlabError(f"{folder} holds {names}: set dataset.path to one .inter file.")
    return found[0]


def _file_format(path: Path, named: bool) -> InteractionFormat:
    with path.open("rb") as file:
        if file.read(4) == b"PAR1":
            return "table"
    line = (
        next(read_blocks(path, member_of(path), block_bytes=1 << 16)).data.split(b"\n", 1)[0].decode("utf-8", "replace")
    )
    cells = line.strip().split("\t")
    if path.suffix == INTER or all(_TYPE.search(cell) for cell in cells):
        return "recbole"
    separated = any(separator in line for separator in SEPARATORS)
    if named or (separated and not _is_numeric(re.split(r"[,\t;|]", line.strip()))):
        return "table"
    if not separated and len(line.split()) > 1:
        return "lines"
    raise StemlabError(
        f"{path}, line 1 is {line.strip()[:60]!r}, without column names: add a header, give the names with "
        "dataset.columns=[user,item,time], or set dataset.format=lines for lines 'user item item ...'."
    )


def _is_numeric(cells: Sequence[str]) -> bool:
    return all(re.fullmatch(r"\s*[+-]?[0-9.]+\s*", cell) for cell in cells)


def member_of(path: Path) -> str:
    """Return the name of a text file inside an archive of the same name."""
    name = path.name
    for end in _PACKED:
        name = name.removesuffix(end)
    return name


def _item_file(log: Path, kind: InteractionFormat, item_file: str | None) -> Path | None:
    """Return the table of items: the named one, or the ``.item`` file of a RecBole dataset."""
    if item_file is None:
        beside = log.with_suffix(ITEM)
        return beside if kind == "recbole" and beside.is_file() else None
    for found in (log.parent / item_file, Path(item_file)):
        if found.is_file():
            return found
    raise StemlabError(f"dataset.item_file={item_file} exists neither in {log.parent} nor as a path.")


def open_log(path: Path, kind: InteractionFormat, separator: str | None, columns: Sequence[str] | None) -> TableFile:
    """Open a table of interactions or of items.

    Raises:
        StemlabError: see ``open_table``; a RecBole file has a column without a type.
    """
    if kind != "recbole" and path.suffix not in (INTER, ITEM):
        return open_table(path, separator="\t" if separator == "tab" else separator, names=columns)
    table = TextTable(path, "\t", None, quoted=False)
    untyped = [name for name in table.names if not _TYPE.search(name)]
    if untyped:
        raise StemlabError(
            f"{path}, line 1: {untyped[0]!r} has no type: the header of a RecBole file is tab-separated, such as "
            "user_id:token, item_id:token, timestamp:float; or set dataset.format=table."
        )
    return table


def bare_names(table: TableFile) -> Mapping[str, str]:
    """Return the names of the readable columns without RecBole types -> their names in the file."""
    return {without_type(name): name for name in table.readable}


def without_type(name: str) -> str:
    """Return the name of a RecBole column without its type: ``user_id:token`` -> ``user_id``."""
    return _TYPE.sub("", name)


def is_sequence_column(name: str) -> bool:
    """Return whether a RecBole column holds several values per cell, separated by blanks."""
    return name.endswith("_seq")

"""Item categories from the Amazon metadata of 2014 (``meta_<Category>.json.gz``).

The file has one object per line: a Python literal in the published files, JSON in converted ones. The keys ``asin`` and
``categories`` are read; the latter is a list of paths such as ``['Electronics', 'Computers & Accessories',
'Monitors']``. An item's category is the last name of its last path, as in the released preprocessing of DIN and TIN.
Source: docs/methods/datasets.md#item-categories.
"""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

from stemlab.data.io.progress import Advance
from stemlab.data.io.text_blocks import read_blocks
from stemlab.errors import StemlabError

_ITEM_KEY, _PATHS_KEY = "asin", "categories"
_REVIEW_FILE = re.compile(r"reviews_(.+?)(_[0-9]+)?\.json(\.gz)?")
_LEADING_ASIN = re.compile(rb"""\{(['"])asin\1: ?\1([0-9A-Za-z]+)\1[,}]""")
_LITERAL_ERRORS = (ValueError, SyntaxError, TypeError, RecursionError, MemoryError)
_MAX_SHOWN = 60


def find_meta(reviews: Path, name: str | None) -> Path | None:
    """Return the path of the metadata file, or ``None`` if there is none.

    Args:
        reviews: the review file.
        name: name of the metadata file in the folder of the reviews, or a path; ``None``: derived from the name of the
            review file. The file without ``.gz`` is accepted too.

    Raises:
        StemlabError: ``name`` is given and the file does not exist.
    """
    match = _REVIEW_FILE.fullmatch(reviews.name)
    wanted = name or (f"meta_{match[1]}.json.gz" if match else None)
    if wanted is None:
        return None
    candidates = (reviews.parent / wanted, reviews.parent / wanted.removesuffix(".gz"))
    found = next((path for path in candidates if path.is_file()), None)
    if found is None and name is not None:
        raise StemlabError(
            f"dataset.meta_file: there is no file {candidates[0]}; put the metadata of the category there, or set "
            "dataset.meta_file=null, which uses meta_<Category>.json.gz in the folder of the reviews if it exists."
        )
    return found


def read_leaves(path: Path, items: Collection[str], advance: Advance) -> dict[str, str]:
    """Return item id -> category for every item that has one; if an item occurs twice, the later line is used.

    Lines of other items are skipped, without parsing if they start with the asin: parsing literals is slow, and most
    items of a category are not in its 5-core.

    Args:
        path: the file, plain or gzip.
        items: original ids of the items to look up.
        advance: called with the number of bytes consumed.

    Raises:
        StemlabError: the file is empty, truncated or damaged, a line is invalid, or none of ``items`` has a category.
    """
    wanted = frozenset(items)
    found = {item: leaf for item, leaf in _leaves(path, wanted, advance) if leaf}
    if not found:
        raise StemlabError(
            f"{path} has no category of any reviewed item: is it the file of another category? Replace it, or remove "
            "it to prepare the dataset without categories."
        )
    return found


def _leaves(path: Path, wanted: frozenset[str], advance: Advance) -> Iterator[tuple[str, str]]:
    for block in read_blocks(path, path.name, advance):
        for number, line in enumerate(block.data.removesuffix(b"\n").split(b"\n"), start=block.first_line):
            leading = _LEADING_ASIN.match(line)
            if leading and leading[2].decode("ascii") not in wanted:
                continue
            try:
                item, paths = _parse(line)
                if item in wanted:
                    yield item, _last(paths)
            except _BadLineError as error:
                message = f"{path}, line {number}: {error}; correct the line or download the file again."
                raise StemlabError(message) from None


class _BadLineError(Exception):
    """Short description of what is wrong with a line."""


def _parse(line: bytes) -> tuple[str, Any]:
    """Return asin and paths of a line; invalid UTF-8 is replaced."""
    text = line.decode("utf-8-sig", "replace")
    try:
        record = json.loads(text)
    except (ValueError, RecursionError):
        try:
            record = ast.literal_eval(text)
        except _LITERAL_ERRORS:
            record = None
    if not isinstance(record, dict):
        raise _BadLineError("the line is neither a JSON object nor a Python dict literal")
    if _ITEM_KEY not in record:
        raise _BadLineError(f"the key {_ITEM_KEY!r} is missing")
    if not (isinstance(record[_ITEM_KEY], str) and record[_ITEM_KEY]):
        raise _BadLineError(f"{_ITEM_KEY!r} is {_shorten(record[_ITEM_KEY])}, not an id")
    return record[_ITEM_KEY], record.get(_PATHS_KEY)


def _last(paths: Any) -> str:
    """Return the last name of the last path; empty if there is none."""
    if paths is None:
        return ""
    nested = isinstance(paths, list) and all(isinstance(path, list) for path in paths)
    if not nested or not all(isinstance(name, str) for path in paths for name in path):
        raise _BadLineError(f"{_PATHS_KEY!r} is {_shorten(paths)}, not a list of paths (lists of names)")
    leaf = str(paths[-1][-1]) if paths and paths[-1] else ""
    return leaf.encode("utf-8", "replace").decode("utf-8")  # replaces lone surrogates, which cannot be written


def _shorten(value: Any) -> str:
    return repr(value)[:_MAX_SHOWN]

"""Categories of Amazon's items, from the metadata of 2014 (``meta_<Category>.json.gz``) beside the reviews.

One object a line, as a Python literal in the published files and as JSON in converted ones. Of its keys ``asin`` and
``categories`` are read, a list of paths such as ``['Electronics', 'Computers & Accessories', 'Monitors']``. An item's
category is the last name of its last path: the preprocessing of DIN's release, and of TIN's after it, takes that one.
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

ITEM, PATHS = "asin", "categories"
_REVIEWS = re.compile(r"reviews_(.+?)(_[0-9]+)?\.json(\.gz)?")
_FIRST = re.compile(rb"""\{(['"])asin\1: ?\1([0-9A-Za-z]+)\1[,}]""")
_UNREADABLE = (ValueError, SyntaxError, TypeError, RecursionError, MemoryError)
_SHOWN = 60


def find_meta(reviews: Path, name: str | None) -> Path | None:
    """Return the file of metadata, or ``None`` where there is none.

    Args:
        reviews: the review file.
        name: of the file in that file's folder, or a path; ``None``: after the name of the review file, if it is there.
            Without ``.gz`` it is taken as well.

    Raises:
        StemlabError: a file that was named is not there.
    """
    told = _REVIEWS.fullmatch(reviews.name)
    wanted = name or (f"meta_{told[1]}.json.gz" if told else None)
    if wanted is None:
        return None
    places = (reviews.parent / wanted, reviews.parent / wanted.removesuffix(".gz"))
    found = next((path for path in places if path.is_file()), None)
    if found is None and name is not None:
        raise StemlabError(
            f"dataset.meta_file: there is no file {places[0]}; put the metadata of the category there, or set "
            "dataset.meta_file=null, which takes meta_<Category>.json.gz beside the reviews if it is there."
        )
    return found


def read_leaves(path: Path, items: Collection[str], advance: Advance) -> dict[str, str]:
    """Return the category of every item that has one; of an item told twice the later line counts.

    Lines of other items are passed over, unread where they begin with their asin: literals take long to parse, and most
    items of a category are not in its 5-core.

    Args:
        path: the file, plain or gzip.
        items: original ids of the items wanted.
        advance: told the bytes consumed.

    Raises:
        StemlabError: the file is empty, truncated or damaged, the first bad line, or no category for any of ``items``.
    """
    wanted = frozenset(items)
    found = {item: leaf for item, leaf in _leaves(path, wanted, advance) if leaf}
    if not found:
        raise StemlabError(
            f"{path} tells no category of any item reviewed: is it the file of another category or collection? Put the "
            "right one there, or take it away and prepare without categories."
        )
    return found


def _leaves(path: Path, wanted: frozenset[str], advance: Advance) -> Iterator[tuple[str, str]]:
    for block in read_blocks(path, path.name, advance):
        for number, line in enumerate(block.data.removesuffix(b"\n").split(b"\n"), start=block.first_line):
            begins = _FIRST.match(line)
            if begins and begins[2].decode("ascii") not in wanted:
                continue
            try:
                item, paths = _parse(line)
                if item in wanted:
                    yield item, _last(paths)
            except _BadLineError as error:
                told = f"{path}, line {number}: {error}; mend the line or fetch the file again."
                raise StemlabError(told) from None


class _BadLineError(Exception):
    """What is wrong with a line, in a few words."""


def _parse(line: bytes) -> tuple[str, Any]:
    """Return asin and paths of a line; bytes that are no UTF-8 matter in neither."""
    text = line.decode("utf-8-sig", "replace")
    try:
        told = json.loads(text)
    except (ValueError, RecursionError):
        try:
            told = ast.literal_eval(text)
        except _UNREADABLE:
            told = None
    if not isinstance(told, dict):
        raise _BadLineError("this is neither a JSON object nor a Python literal of one")
    if ITEM not in told:
        raise _BadLineError(f"there is no key {ITEM!r}")
    if not (isinstance(told[ITEM], str) and told[ITEM]):
        raise _BadLineError(f"{ITEM!r} is {_shown(told[ITEM])}, not an id")
    return told[ITEM], told.get(PATHS)


def _last(paths: Any) -> str:
    """Return the last name of the last path; empty where nothing is told."""
    if paths is None:
        return ""
    good = isinstance(paths, list) and all(isinstance(path, list) for path in paths)
    if not good or not all(isinstance(name, str) for path in paths for name in path):
        raise _BadLineError(f"{PATHS!r} is {_shown(paths)}, not a list of paths, each a list of names")
    leaf = str(paths[-1][-1]) if paths and paths[-1] else ""
    return leaf.encode("utf-8", "replace").decode("utf-8")  # half of a surrogate pair could not be written


def _shown(value: Any) -> str:
    return repr(value)[:_SHOWN]

"""Generated blocks in a document, between ``<!-- table:NAME -->`` and ``<!-- /table -->``."""

from __future__ import annotations

import re
from pathlib import Path

from stemlab.data.io.output_file import write_text_file
from stemlab.errors import StemlabError, nearest

END = "<!-- /table -->"


def update_block(path: Path, name: str, content: str) -> bool:
    """Replace the content of a block atomically; return whether it changed.

    Args:
        path: document.
        name: name of the block.
        content: new content.

    Raises:
        StemlabError: the file does not exist, or does not have exactly one such block.
    """
    text = _read(path)
    start, end = _find(text, path, name)
    made = f"{text[:start]}\n{content.strip()}\n{text[end:]}"
    if made == text:
        return False
    write_text_file(path, made)
    return True


def check_block(path: Path, name: str, content: str) -> None:
    """Check that a block equals the generated content.

    Args:
        path: document.
        name: name of the block.
        content: generated content.

    Raises:
        StemlabError: the block differs (with the first different line), or is not found.
    """
    text = _read(path)
    start, end = _find(text, path, name)
    current, wanted = text[start:end].strip().splitlines(), content.strip().splitlines()
    if current == wanted:
        return
    offset = next(
        (i for i, (a, b) in enumerate(zip(current, wanted, strict=False)) if a != b), min(len(current), len(wanted))
    )
    line = text[:start].count("\n") + 2 + offset
    raise StemlabError(
        f"{path}, line {line}: table {name!r} differs from the run records; run the same command with update={path} "
        "and without check=true."
    )


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise StemlabError(f"update: the file {path} does not exist.") from None


def _find(text: str, path: Path, name: str) -> tuple[int, int]:
    """Return the start and end offset of the content of the block."""
    begin = f"<!-- table:{name} -->"
    if text.count(begin) != 1:
        known = re.findall(r"<!-- table:(\S+) -->", text)
        count = "more than one block" if begin in text else "no block"
        raise StemlabError(f"{path} has {count} for table {name!r} ({begin} … {END}).{nearest(name, known)}")
    start = text.index(begin) + len(begin)
    end = text.find(END, start)
    following = text.find("<!-- table:", start)
    if end < 0 or 0 <= following < end:
        raise StemlabError(f"{path}: the block {begin} is not closed by {END}.")
    return start, end

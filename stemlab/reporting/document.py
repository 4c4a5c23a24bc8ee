"""Generated blocks in a document, between ``<!-- table:NAME -->`` and ``<!-- /table -->``."""

from __future__ import annotations

import re
from pathlib import Path

from stemlab.errors import StemlabError, nearest

END = "<!-- /table -->"


def update_block(path: Path, name: str, content: str) -> bool:
    """Replace the content of a block in one step; return whether it changed.

    Raises:
        StemlabError: no such file, or not exactly one such block in it.
    """
    text = _read(path)
    start, end = _find(text, path, name)
    made = f"{text[:start]}\n{content.strip()}\n{text[end:]}"
    if made == text:
        return False
    part = path.with_name(f"{path.name}.part")
    part.write_text(made, encoding="utf-8")
    part.replace(path)
    return True


def check_block(path: Path, name: str, content: str) -> None:
    """Raise StemlabError, with the first line that differs, if the block is not what the records give."""
    text = _read(path)
    start, end = _find(text, path, name)
    there, wanted = text[start:end].strip().splitlines(), content.strip().splitlines()
    if there == wanted:
        return
    place = next(
        (i for i, (a, b) in enumerate(zip(there, wanted, strict=False)) if a != b), min(len(there), len(wanted))
    )
    line = text[:start].count("\n") + 2 + place
    raise StemlabError(
        f"{path}, line {line}: table {name!r} is not what the run records give; run the same command with "
        f"update={path} and without check=true."
    )


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise StemlabError(f"update: there is no file {path}.") from None


def _find(text: str, path: Path, name: str) -> tuple[int, int]:
    """Return where the block's content begins and ends."""
    begin = f"<!-- table:{name} -->"
    if text.count(begin) != 1:
        known = re.findall(r"<!-- table:(\S+) -->", text)
        told = "more than one place" if begin in text else "no place"
        raise StemlabError(f"{path} has {told} for table {name!r} ({begin} … {END}).{nearest(name, known)}")
    start = text.index(begin) + len(begin)
    end = text.find(END, start)
    following = text.find("<!-- table:", start)
    if end < 0 or 0 <= following < end:
        raise StemlabError(f"{path}: the block {begin} is not closed by {END}.")
    return start, end

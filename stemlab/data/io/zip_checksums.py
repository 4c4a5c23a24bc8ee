"""Checksums of ZIP files, among them the checkpoints of PyTorch, which does not compare them when it reads a file."""

from __future__ import annotations

import zipfile
from pathlib import Path

_verified: set[tuple[str, int, int, int]] = set()  # files that this process has verified


def find_zip_damage(path: Path) -> str | None:
    """Return a short description of the damage of a ZIP file; None if it is intact or of another kind.

    The file is read in blocks, once per process as long as its size and modification time stay the same.
    """
    state = path.stat()
    key = (str(path.absolute()), state.st_ino, state.st_size, state.st_mtime_ns)
    if key in _verified or not zipfile.is_zipfile(path):
        return None
    try:
        with zipfile.ZipFile(path) as file:
            member = file.testzip()
    except (zipfile.BadZipFile, EOFError, RuntimeError, ValueError) as error:  # RuntimeError: an encrypted member
        return str(error)
    if member is not None:
        return f"its member {member} has changed"
    _verified.add(key)
    return None

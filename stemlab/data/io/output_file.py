"""Output files that appear only when they are complete; errors of the disk in one sentence."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from stemlab.errors import StemlabError

_OPEN_FILES = ("/dev/std", "/dev/fd/", "/proc/")  # open files of this process


@contextmanager
def write_errors(path: Path) -> Iterator[None]:
    """Turn an error of the operating system while ``path`` is written into a StemlabError."""
    try:
        yield
    except OSError as error:
        reason = error.strerror or " ".join(str(error).split())
        raise StemlabError(f"{path} cannot be written ({reason}): free disk space, or choose another path.") from error


@contextmanager
def complete_file(path: Path) -> Iterator[Path]:
    """Yield the path to write to; it is renamed to ``path`` at the end of the block, or deleted after an error.

    A device or pipe (``/dev/stdout``) is written directly: renaming would replace it.

    Args:
        path: the file; missing folders are made, and a symbolic link keeps pointing to the file.

    Raises:
        StemlabError: the file cannot be written, or is a folder.
    """
    if path.is_dir():
        raise StemlabError(f"{path} is a folder: give the path of a file.")
    direct = str(path).startswith(_OPEN_FILES) or (path.exists() and not path.is_file())
    target = path if direct else Path(os.path.realpath(path))
    with write_errors(path):
        target.parent.mkdir(parents=True, exist_ok=True)
    part = target if direct else target.with_name(f"{target.name}.part")
    try:
        yield part
        if not direct:
            with write_errors(path):
                part.replace(target)
    finally:
        if not direct:
            with suppress(OSError):
                part.unlink(missing_ok=True)


def write_text_file(path: Path, text: str) -> None:
    """Write a UTF-8 text file.

    Raises:
        StemlabError: the file cannot be written; nothing is left of it, and an earlier file stays.
    """
    with complete_file(path) as part, write_errors(path):
        part.write_text(text, encoding="utf-8")

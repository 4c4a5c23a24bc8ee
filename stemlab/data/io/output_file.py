"""Output files that appear only when they are complete; errors of the disk in one sentence."""

from __future__ import annotations

import errno
import fcntl
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from threading import get_ident
from typing import BinaryIO

from stemlab.errors import StemlabError

_OPEN_FILES = ("/dev/std", "/dev/fd/", "/proc/")  # open files of this process
_TORCH_WRITER = ("PytorchStreamWriter failed", "unexpected pos")  # errors of the writer of PyTorch's archives


@contextmanager
def write_errors(path: Path) -> Iterator[None]:
    """Turn an error of the operating system while ``path`` is written into a StemlabError."""
    try:
        yield
    except (OSError, RuntimeError) as error:
        if isinstance(error, RuntimeError) and not any(word in str(error) for word in _TORCH_WRITER):
            raise
        raise StemlabError(f"{path} cannot be written ({write_failure(error)}): {_advice(error)}.") from error


def write_failure(error: BaseException) -> str:
    """Return why a file could not be written, without the paths and positions that libraries add."""
    number = _error_number(error)
    if isinstance(error, FileExistsError | NotADirectoryError):
        return "a part of the path is a file"
    if number is None and isinstance(error, RuntimeError):
        return "only a part of it was written"
    return os.strerror(number) if number is not None else " ".join(str(error).split())[:200]


def _error_number(error: BaseException) -> int | None:
    """Return the ``errno`` of an error; libraries put it into their text, or raise another error because of it."""
    found: BaseException | None = error
    while found is not None:
        if isinstance(found, OSError) and found.errno is not None:
            return found.errno
        if number := re.search(r"\[errno (\d+)\]", str(found), re.IGNORECASE):
            return int(number[1])
        found = found.__cause__ or found.__context__
    return None


def _advice(error: BaseException) -> str:
    full = isinstance(error, RuntimeError) or _error_number(error) in (errno.ENOSPC, errno.EDQUOT)
    return "free disk space, or choose another path" if full else "choose another path"


def require_writable(path: Path, advice: str = "choose another path") -> None:
    """Refuse a file or folder that could not be written, before the work whose result it is to hold.

    Args:
        path: the file or folder.
        advice: what to do, for the message.

    Raises:
        StemlabError: a part of the path is a file, or the nearest existing folder cannot be written.
    """
    real = Path(os.path.realpath(path))
    if real.exists() and not real.is_file() and not real.is_dir():
        return  # a device or pipe
    folder = next(parent for parent in real.parents if parent.exists())
    if not folder.is_dir():
        raise StemlabError(f"{path} cannot be written ({folder} is a file): {advice}.")
    if not os.access(folder, os.W_OK | os.X_OK):
        raise StemlabError(f"{path} cannot be written (no write access to {folder}): {advice}.")


def check_folder_name(output: str, endings: tuple[str, ...]) -> None:
    """Refuse the name of a file where a folder is written.

    Raises:
        StemlabError: ``output`` ends as one of the files in it, and is no folder yet.
    """
    if output.lower().endswith(endings) and not os.path.isdir(output):
        raise StemlabError(f"output={output} is the name of a file, but a folder is written: leave out its ending.")


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
    if direct:
        yield target
        return
    with write_errors(path):
        file, part = _open_part(target)
    with file:  # locked
        try:
            yield part
            with write_errors(path):
                part.replace(target)
        except BaseException:
            with suppress(OSError):
                part.unlink(missing_ok=True)
            raise


def _open_part(target: Path) -> tuple[BinaryIO, Path]:
    """Return the locked file ``<name>.part``; another name while another process, or thread, writes the same file.

    The lock ends with the process, so that the part of a process that was killed is used again.
    """
    part = target.with_name(f"{target.name}.part")
    file = part.open("ab")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        own = part.exists() and os.path.samestat(os.fstat(file.fileno()), part.stat())  # else: renamed meanwhile
    except BlockingIOError:
        own = False
    except OSError:  # a file system without locks
        own = True
    return file, part if own else target.with_name(f"{target.name}.{os.getpid()}-{get_ident()}.part")


def write_text_file(path: Path, text: str) -> None:
    """Write a UTF-8 text file.

    Raises:
        StemlabError: the file cannot be written; nothing is left of it, and an earlier file stays.
    """
    with complete_file(path) as part, write_errors(path):
        part.write_text(text, encoding="utf-8")


def write_text_files(texts: Mapping[Path, str]) -> None:
    """Write several UTF-8 text files, which appear together when all of them are complete.

    Raises:
        StemlabError: one of the files cannot be written; earlier files stay.
    """
    with ExitStack() as stack:
        for path, text in texts.items():
            part = stack.enter_context(complete_file(path))
            with write_errors(path):
                part.write_text(text, encoding="utf-8")

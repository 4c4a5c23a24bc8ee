"""Lock of a run directory: held by the process that trains in it, released by the operating system when it ends."""

from __future__ import annotations

import fcntl
import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from stemlab.errors import StemlabError

LOCK = ".run.lock"
_TRIES, _PAUSE_S = 5, 0.05  # a reader of the record holds a shared lock for an instant


@contextmanager
def run_lock(directory: Path, activity: str = "training", setting: str = "hydra.run.dir") -> Iterator[None]:
    """Hold the lock of a run directory, which is created when needed; the lock file is deleted at the end.

    Args:
        directory: the directory.
        activity: what the holder does, for the message.
        setting: setting that chooses the directory, for the message.

    Raises:
        StemlabError: another process trains in the directory.
    """
    directory.mkdir(parents=True, exist_ok=True)
    file, holder = _acquire(directory / LOCK)
    if file is None:
        raise StemlabError(
            f"another {activity} is running in {directory} ({holder}): wait until it ends, or choose another {setting}."
        )
    try:
        yield
    finally:
        with suppress(OSError):
            (directory / LOCK).unlink(missing_ok=True)
        file.close()


def _acquire(path: Path) -> tuple[IO[str] | None, str]:
    """Return the locked file, or None and who holds the lock."""
    holder = "unknown"
    for _ in range(_TRIES):
        file = path.open("a+", encoding="utf-8")
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            holder = file.read().strip() or "unknown"
            file.close()
            time.sleep(_PAUSE_S)
            continue
        except OSError:  # a file system without locks
            return file, ""
        if _is_current(file, path):
            file.truncate(0)
            file.write(f"process {os.getpid()} on {socket.gethostname()}\n")
            file.flush()
            return file, ""
        file.close()  # the holder deleted the file between open and flock
        holder = "unknown"
    return None, holder


def _is_current(file: IO[str], path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(file.fileno()), path.stat())
    except FileNotFoundError:
        return False


def is_locked(directory: Path) -> bool:
    """Return whether a process that is alive trains in the directory."""
    try:
        with (directory / LOCK).open(encoding="utf-8") as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:  # no lock file
        return False
    return False

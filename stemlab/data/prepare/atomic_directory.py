"""Atomic creation of a directory: built beside its final path, renamed when complete, and built by one process only."""

from __future__ import annotations

import errno
import fcntl
import logging
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path

from stemlab.errors import StemlabError

_log = logging.getLogger(__name__)
_BUILD, _BLOCKS = ".build-", ".blocks-"
_builds: ContextVar[bool] = ContextVar("builds", default=True)


@contextmanager
def existing_directories_only() -> Iterator[None]:
    """Let ``find_or_build`` return existing directories without reading their files, and build nothing."""
    token = _builds.set(False)
    try:
        yield
    finally:
        _builds.reset(token)


def find_or_build(final: Path, damage: Callable[[Path], str | None], build: Callable[[Path], None]) -> Path:
    """Return a directory; build it if it is missing or damaged.

    Args:
        final: the directory; unfinished builds and lock files lie in its parent (names begin with a dot).
        damage: returns a short description of the damage of the directory, or ``None`` if it is complete.
        build: fills an empty directory, which is then flushed to disk and renamed.

    Returns:
        ``final``.

    Raises:
        StemlabError: the disk is full, a file cannot be written or read, or what ``build`` raises; or the directory
            does not exist within ``existing_directories_only``.
    """
    if not _builds.get():
        if final.is_dir():
            return final
        raise StemlabError(f"{final} does not exist: run python -m stemlab.prepare with the same dataset settings.")
    if final.is_dir() and damage(final) is None:
        _remove_blocks(final)
        return final
    with file_errors(final.parent):
        final.parent.mkdir(parents=True, exist_ok=True)
        with locked(final.parent / f".{final.name}.lock", "preparing"):
            if final.is_dir():
                problem = damage(final)
                if problem is None:  # another process built it while this one waited
                    return final
                _log.warning("%s is damaged (%s): building it again", final, problem)
            _remove_stale_builds(final.parent)
            _build(final, build)
            shutil.rmtree(blocks_of(final), ignore_errors=True)
    return final


def blocks_of(final: Path) -> Path:
    """Return where ``build`` may keep finished blocks of its work.

    They outlive a process that is killed; they are deleted when the directory is complete, when ``build`` raises an
    exception, and by the next build of another directory beside it.
    """
    return final.parent / f"{_BLOCKS}{final.name}"


@contextmanager
def file_errors(root: Path) -> Iterator[None]:
    """Turn errors of the operating system into StemlabError: full disk, folder without write access, unreadable file.

    Args:
        root: folder that is written, below ``paths.data_dir``.
    """
    try:
        yield
    except MemoryError as error:
        raise StemlabError(
            f"not enough memory to prepare {root}: give fewer raw rows or columns, or use a machine with more memory."
        ) from error
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise StemlabError(f"no disk space is left under {root}: free some, or set paths.data_dir.") from error
        name = error.filename if isinstance(error.filename, str | bytes | os.PathLike) else None
        path = root if name is None else Path(os.fsdecode(name))
        if name is None or path == root or root in path.parents or path in root.parents:
            raise StemlabError(f"{path} cannot be written ({error.strerror}): set paths.data_dir.") from error
        raise StemlabError(f"{path} cannot be read: {error.strerror}.") from error


def _build(final: Path, build: Callable[[Path], None]) -> None:
    root = final.parent
    part = root / f"{_BUILD}{final.name}"
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir()
    try:
        build(part)
        _flush(part)
        shutil.rmtree(final, ignore_errors=True)
        os.rename(part, final)
        _flush_one(root)
    except Exception:  # after KeyboardInterrupt or a kill, the next build reuses the finished blocks
        shutil.rmtree(blocks_of(final), ignore_errors=True)
        raise
    finally:
        shutil.rmtree(part, ignore_errors=True)


@contextmanager
def locked(path: Path, doing: str, wait: bool = True) -> Iterator[bool]:
    """Hold a file lock, which the operating system releases when the process ends; yield whether it is held.

    Args:
        path: the lock file, ``.<name>.lock``; it is not deleted.
        doing: activity of the holder ("preparing"), for the message of waiting processes.
        wait: whether to wait for the lock; otherwise yield False if another process holds it.
    """
    with path.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            held = True
        except BlockingIOError:
            held = wait
            if wait:
                _log.warning("another process is %s %s: waiting for it", doing, path.name[1:].removesuffix(".lock"))
                fcntl.flock(file, fcntl.LOCK_EX)
        yield held


def _remove_stale_builds(root: Path) -> None:
    """Delete directories of interrupted builds of other directories, whose process no longer holds the lock."""
    for stale in [*root.glob(f"{_BUILD}*"), *root.glob(f"{_BLOCKS}*")]:
        lock = root / f".{stale.name.removeprefix(_BUILD).removeprefix(_BLOCKS)}.lock"
        with locked(lock, "preparing", wait=False) as held:
            if held:
                shutil.rmtree(stale, ignore_errors=True)


def _remove_blocks(final: Path) -> None:
    """Delete the blocks of a process that was killed after the directory was complete."""
    if blocks_of(final).exists():
        with locked(final.parent / f".{final.name}.lock", "preparing", wait=False) as held:
            if held:
                shutil.rmtree(blocks_of(final), ignore_errors=True)


def _flush(directory: Path) -> None:
    for path in [*directory.rglob("*"), directory]:
        _flush_one(path)


def _flush_one(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)

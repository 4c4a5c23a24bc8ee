"""One published file, fetched once: bounded waiting, checked, whole or not there at all."""

from __future__ import annotations

import hashlib
import logging
import os
import queue
import threading
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path
from typing import Any
from urllib.request import urlopen

from pytorch_lightning.utilities import rank_zero_only

from stemlab.data.io.progress import ProgressBars
from stemlab.errors import StemlabError

_log = logging.getLogger(__name__)
ANSWER_SECONDS = 5.0  # until the server answers: looking up its name, connecting and the first line together
READ_SECONDS = 30.0  # of silence in the middle of a file
_BLOCK = 1 << 18


class UnreachableError(StemlabError):
    """The file cannot be had from its publisher now; the sentence says where to put it by hand."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PublishedFile:
    """A file on its publisher's server.

    Attributes:
        url: where it is.
        md5: hexadecimal checksum, as published beside the file.
        notice: its terms of use in one sentence, told before it is fetched.
    """

    url: str
    md5: str
    notice: str

    @property
    def name(self) -> str:
        """Its name, the last part of the address."""
        return self.url.rpartition("/")[2]


def fetch(file: PublishedFile, folder: Path, advice: str) -> Path:
    """Fetch a file into a folder; a file of its name that is there already is returned as it is.

    It is written beside its place and renamed when its checksum is right, so that neither an interruption nor a second
    process leaves half a file.

    Args:
        file: what to fetch.
        folder: where it goes; made if needed.
        advice: what to do without a network, the end of the sentence of an error.

    Raises:
        UnreachableError: no network, no answer in ``ANSWER_SECONDS``, or the connection broke.
        StemlabError: the checksum is another one, or the folder cannot be written.
    """
    path = folder / file.name
    if path.is_file():
        return path
    _announce(file, path)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        _fetch(file, path, advice)
    except OSError as error:
        raise StemlabError(f"{path} cannot be written ({error.strerror or error}); {advice}.") from error
    return path


def _fetch(file: PublishedFile, path: Path, advice: str) -> None:
    part = path.with_name(f".{file.name}.{os.getpid()}")
    try:
        with part.open("wb") as target:
            found = _copy(file, target, advice)
        if found != file.md5:
            raise StemlabError(
                f"{file.url} has the MD5 checksum {found} instead of {file.md5}: the file was damaged on its way or "
                f"replaced by its publisher; try again, or {advice}."
            )
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)


def _copy(file: PublishedFile, target: Any, advice: str) -> str:
    """Write what the server sends; return its MD5."""
    digest, received = hashlib.md5(usedforsecurity=False), 0
    with closing(_open(file.url, advice)) as answer, ProgressBars() as progress:
        expected = int(answer.headers.get("Content-Length") or 0)
        advance = progress.bytes(f"fetching {file.name}", expected)
        while block := _read(answer, file.url, advice):
            target.write(block)
            digest.update(block)
            received += len(block)
            advance(len(block))
    if received < expected:
        raise _unreachable(file.url, f"the connection ended after {received:,} of {expected:,} bytes", advice)
    return digest.hexdigest()


def _open(url: str, advice: str) -> Any:
    """Open a URL, or give up in time: looking up a name without a network may hang, and nothing else can stop it."""
    answers: queue.Queue[Any] = queue.Queue()
    request = threading.Thread(
        target=lambda: answers.put(_attempt(lambda: urlopen(url, timeout=READ_SECONDS))), daemon=True
    )
    request.start()
    try:
        answer = answers.get(timeout=ANSWER_SECONDS)
    except queue.Empty:
        raise _unreachable(url, f"no answer in {ANSWER_SECONDS:g} seconds", advice) from None
    if isinstance(answer, Exception):
        raise _unreachable(url, _reason(answer), advice) from answer
    return answer


def _read(answer: Any, url: str, advice: str) -> bytes:
    block = _attempt(lambda: answer.read(_BLOCK))
    if isinstance(block, Exception):
        raise _unreachable(url, _reason(block), advice) from block
    return bytes(block)


def _attempt(action: Callable[[], Any]) -> Any:
    """Return what the action returns, or the exception that says why the network did not let it."""
    try:
        return action()
    except (OSError, HTTPException) as error:
        return error


def _unreachable(url: str, reason: str, advice: str) -> UnreachableError:
    return UnreachableError(f"{url} cannot be fetched ({reason}): {advice}.")


def _reason(error: Exception) -> str:
    inner = getattr(error, "reason", error)
    return str(getattr(inner, "strerror", None) or inner) or type(error).__name__


@rank_zero_only
def _announce(file: PublishedFile, path: Path) -> None:
    _log.warning("fetching %s to %s: %s", file.url, path, file.notice)

"""Downloads a published file once: timeouts, verified checksum, no partial files."""

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
RESPONSE_SECONDS = 5.0  # for name resolution, connection and the first line of the response together
READ_SECONDS = 30.0  # without data in the middle of a file
_BLOCK = 1 << 18


class UnreachableError(StemlabError):
    """The file cannot be downloaded now; the message says where to put it by hand."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PublishedFile:
    """File on its publisher's server.

    Attributes:
        url: address of the file.
        md5: hexadecimal MD5 checksum given by the publisher.
        notice: terms of use in one sentence, logged before the download.
    """

    url: str
    md5: str
    notice: str

    @property
    def name(self) -> str:
        """File name, the last part of the URL."""
        return self.url.rpartition("/")[2]


def fetch(file: PublishedFile, folder: Path, advice: str) -> Path:
    """Download a file into a folder and return its path; an existing file of that name is not downloaded again.

    The file is written under a temporary name and renamed after its checksum is verified, so an interruption or a
    second process never leaves a partial file.

    Args:
        file: the file to download.
        folder: target folder; created if missing.
        advice: how to get the file without a network; ends each error message.

    Raises:
        UnreachableError: no network, no response within ``RESPONSE_SECONDS``, or a broken connection.
        StemlabError: the checksum differs, or the folder cannot be written.
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
                f"{file.url} has the MD5 checksum {found} instead of {file.md5}: the file was damaged during the "
                f"download or replaced by its publisher; try again, or {advice}."
            )
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)


def _copy(file: PublishedFile, target: Any, advice: str) -> str:
    """Write the response body to ``target``; return its MD5 checksum."""
    digest, received = hashlib.md5(usedforsecurity=False), 0
    with closing(_open(file.url, advice)) as response, ProgressBars() as progress:
        expected = int(response.headers.get("Content-Length") or 0)
        advance = progress.bytes(f"fetching {file.name}", expected)
        while block := _read(response, file.url, advice):
            target.write(block)
            digest.update(block)
            received += len(block)
            advance(len(block))
    if received < expected:
        raise _unreachable(file.url, f"the connection ended after {received:,} of {expected:,} bytes", advice)
    return digest.hexdigest()


def _open(url: str, advice: str) -> Any:
    """Open a URL with a timeout; in a thread, because name resolution without a network can hang."""
    responses: queue.Queue[Any] = queue.Queue()
    request = threading.Thread(
        target=lambda: responses.put(_attempt(lambda: urlopen(url, timeout=READ_SECONDS))), daemon=True
    )
    request.start()
    try:
        response = responses.get(timeout=RESPONSE_SECONDS)
    except queue.Empty:
        raise _unreachable(url, f"no response within {RESPONSE_SECONDS:g} seconds", advice) from None
    if isinstance(response, Exception):
        raise _unreachable(url, _reason(response), advice) from response
    return response


def _read(response: Any, url: str, advice: str) -> bytes:
    block = _attempt(lambda: response.read(_BLOCK))
    if isinstance(block, Exception):
        raise _unreachable(url, _reason(block), advice) from block
    return bytes(block)


def _attempt(action: Callable[[], Any]) -> Any:
    """Return the result of ``action``, or its network exception."""
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

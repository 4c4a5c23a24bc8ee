"""Reads raw text files in blocks of whole lines, in constant memory.

Files may be plain text, gzip, or a member of a gzipped tar or of a zip (also of a zip inside a zip).
"""

from __future__ import annotations

import gzip
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np

from stemlab.errors import StemlabError

BLOCK_BYTES = 1 << 22  # measured: larger blocks cause more page faults
_LONGEST_LINE = 1 << 22
_GZIP = b"\x1f\x8b"
_ZIP = b"PK"
_TAR = (".tgz", ".tar.gz")
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"  # written by spreadsheet programs before UTF-8 text
_UTF16_MARKS = (b"\xff\xfe", b"\xfe\xff")
_DAMAGE = (EOFError, zlib.error, gzip.BadGzipFile, tarfile.TarError, zipfile.BadZipFile)


@dataclass(frozen=True, slots=True)
class TextBlock:
    """Whole lines of a file.

    Attributes:
        data: the lines with their line ends; the last line of a file may lack one.
        first_line: number of the first line, from 1.
    """

    data: bytes
    first_line: int


def read_blocks(
    path: Path,
    member: str,
    advance: Callable[[int], None] = lambda size: None,
    block_bytes: int | None = None,
) -> Iterator[TextBlock]:
    """Read a text file in blocks of whole lines, without the byte-order mark of UTF-8.

    Args:
        path: plain text, ``.gz``, ``.tgz``/``.tar.gz`` or ``.zip``.
        member: name of the file inside an archive, in any folder of it.
        advance: called with the number of bytes of ``path`` read (compressed bytes for a compressed file).
        block_bytes: bytes of text per block; default ``BLOCK_BYTES``.

    Raises:
        StemlabError: the file is empty, truncated, damaged, or not text (or UTF-16 text).
    """
    line, carry = 1, b""
    try:
        for piece in _read_pieces(path, member, advance, block_bytes or BLOCK_BYTES):
            end = piece.rfind(b"\n") + 1
            if end:
                data = b"".join((carry, memoryview(piece)[:end]))
                block = TextBlock(_without_mark(path, data) if line == 1 else data, line)
                carry, line = piece[end:], line + count_lines(block.data)
                yield block
            else:
                carry += piece
            if len(carry) > _LONGEST_LINE:
                raise StemlabError(f"{path}, line {line} has more than {_LONGEST_LINE:,} bytes: this is not text.")
    except _DAMAGE as error:
        where = f"after line {line - 1}" if line > 1 else "at its beginning"
        raise StemlabError(f"{path} is truncated or damaged {where} ({error}); download it again.") from error
    carry = _without_mark(path, carry) if line == 1 else carry
    if carry:
        yield TextBlock(carry, line)
    elif line == 1:
        raise StemlabError(f"{path} is empty: it has no line of data; write or download it again.")


def refuse_bare_returns(path: Path, data: bytes, first_line: int) -> None:
    """Raise StemlabError for a carriage return inside a line; some programs take it as a line end, others do not."""
    if b"\r" not in data:
        return
    for number, text in enumerate(data.split(b"\n"), start=first_line):
        if b"\r" in text.removesuffix(b"\r"):
            raise StemlabError(
                f"{path}, line {number} contains a carriage return that does not end the line; convert the line ends "
                "(dos2unix -c mac) or remove it."
            )


def _without_mark(path: Path, data: bytes) -> bytes:
    if data.startswith(_UTF16_MARKS):
        raise StemlabError(f"{path} is UTF-16 text; convert the file (iconv -f UTF-16 -t UTF-8).")
    return data.removeprefix(_BYTE_ORDER_MARK)


def count_lines(data: bytes) -> int:
    """Return the number of line ends (several times faster than ``bytes.count`` on short lines)."""
    return int(np.count_nonzero(np.frombuffer(data, dtype=np.uint8) == ord("\n")))


def _read_pieces(path: Path, member: str, advance: Callable[[int], None], size: int) -> Iterator[bytes]:
    """Yield ``size`` bytes at a time; before an error, yield the bytes that were still readable."""
    with _opened(path, member, advance) as text:
        parts: list[bytes] = []
        try:
            while part := text.read1(size):
                parts.append(part)
                if sum(map(len, parts)) >= size:
                    yield b"".join(parts)
                    parts = []
        except _DAMAGE:
            yield b"".join(parts)
            raise
        yield b"".join(parts)


@contextmanager
def _opened(path: Path, member: str, advance: Callable[[int], None]) -> Iterator[Any]:
    with path.open("rb") as raw:
        counted: Any = _Counted(raw, advance)
        magic = raw.read(len(_GZIP))
        raw.seek(0)
        if magic == _ZIP and path.name.endswith(".zip"):
            with zipfile.ZipFile(raw) as archive, _zip_member(archive, member, path) as text:
                yield text
            advance(path.stat().st_size)
            return
        if magic != _GZIP:
            _check_name(path)
            yield counted
            return
        with gzip.GzipFile(fileobj=counted) as unzipped:
            yield _member(unzipped, member, path) if path.name.endswith(_TAR) else unzipped


def _check_name(path: Path) -> None:
    """Raise StemlabError if an uncompressed file is named like a compressed one (empty files are reported later)."""
    for endings, kind in (((".gz", ".tgz"), "gzip"), ((".zip",), "zip")):
        if path.name.endswith(endings) and path.stat().st_size:
            raise StemlabError(f"{path} is not {kind} data, though its name says so; download it again or rename it.")


def _zip_member(archive: zipfile.ZipFile, name: str, path: Path, nested: bool = True) -> IO[bytes]:
    """Open the text member of a zip archive, or of a zip inside it; its checksum is verified at the end."""
    for wanted in (name, f"{Path(name).stem}.zip") if nested else (name,):
        for entry in archive.infolist():
            if not entry.is_dir() and Path(entry.filename).name == wanted:
                if entry.flag_bits & 1:
                    raise StemlabError(f"{path}: {entry.filename} is encrypted; unpack it and give the text file.")
                text = archive.open(entry)
                return (
                    text if wanted == name else _zip_member(zipfile.ZipFile(text), name, path / entry.filename, False)
                )
    raise StemlabError(f"{path} holds no file {name!r}; is it the right archive?")


def _member(unzipped: Any, name: str, path: Path) -> Any:
    """Return the text member of a tar stream."""
    archive = tarfile.open(fileobj=unzipped, mode="r|")  # noqa: SIM115  (closed with the stream below it)
    for entry in archive:
        if entry.isfile() and Path(entry.name).name == name:
            return _Member(archive.extractfile(entry), unzipped)
    raise StemlabError(f"{path} holds no file {name!r}; is it the right archive?")


class _Member:
    """Tar member that reads the stream to its end, so that the gzip checksum is verified."""

    def __init__(self, text: Any, stream: Any) -> None:
        self._text, self._stream = text, stream

    def read1(self, size: int) -> bytes:
        piece: bytes = self._text.read1(size)
        if not piece:
            while self._stream.read(BLOCK_BYTES):
                pass
        return piece


class _Counted:
    """Binary file that reports the number of bytes read."""

    def __init__(self, file: IO[bytes], advance: Callable[[int], None]) -> None:
        self._file, self._advance = file, advance

    def read(self, size: int = -1) -> bytes:
        piece = self._file.read(size)
        self._advance(len(piece))
        return piece

    read1 = read

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)

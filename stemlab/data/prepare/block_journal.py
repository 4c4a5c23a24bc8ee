"""Journal of the finished blocks of an interrupted preparation: one checked line of JSON per block."""

from __future__ import annotations

import json
import shutil
import zlib
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

_NAME = "journal.jsonl"


class BlockJournal:
    """Append-only journal in the directory of the blocks.

    A line counts only if its checksum is right and all lines before it are right, so the half-written line of a killed
    process is ignored. The directory is emptied if the journal is missing or was written with another key.

    Args:
        directory: directory of the blocks; created.
        key: everything that determines the blocks.

    Attributes:
        found: the valid entries of an earlier process.
    """

    def __init__(self, directory: Path, key: str) -> None:
        self._path = directory / _NAME
        lines, self._ends = self._valid_lines()
        if not lines or lines[0] != {"key": key}:
            shutil.rmtree(directory, ignore_errors=True)
            directory.mkdir(parents=True)
            lines, self._ends = [], []
        self.found: list[dict[str, Any]] = lines[1:]
        self._file = self._path.open("ab")
        if not lines:
            self._ends.append(self._write({"key": key}))

    def cut(self, count: int) -> None:
        """Keep the first ``count`` entries of ``found``; call it before ``append``."""
        self.found = self.found[:count]
        self._file.truncate(self._ends[count])

    def append(self, entry: Mapping[str, Any]) -> None:
        """Write an entry; everything that it describes must be written before."""
        self._write(entry)

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def _write(self, entry: Mapping[str, Any]) -> int:
        """Write a line; return its size."""
        text = json.dumps(entry, separators=(",", ":")).encode()
        size = self._file.write(b"%08x %s\n" % (zlib.crc32(text), text))
        self._file.flush()
        return size

    def _valid_lines(self) -> tuple[list[dict[str, Any]], list[int]]:
        """Return the entries of the valid lines, and the position of the end of each of them."""
        entries: list[dict[str, Any]] = []
        ends: list[int] = []
        with suppress(OSError), self._path.open("rb") as file:
            for line in file:
                checksum, _, text = line.partition(b" ")
                if not line.endswith(b"\n") or checksum != b"%08x" % zlib.crc32(text[:-1]):
                    break
                entries.append(json.loads(text))
                ends.append((ends[-1] if ends else 0) + len(line))
        return entries, ends

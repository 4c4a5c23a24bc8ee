"""Log file with the text that a command shows on the terminal, without colours and progress bars."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import takewhile
from pathlib import Path
from threading import Lock
from typing import BinaryIO, cast

# A control sequence (colour, cursor movement), an operating system command (link, title), or a line control.
_CONTROL = re.compile(r"\x1b\[[0-9;?]*[ -/]*[@-~]|\x1b\].*?(?:\x07|\x1b\\)|[\r\n]")
_KEPT_LINES = 32  # more lines than a display that redraws itself has


class ScreenLog:
    """File that follows the lines of a terminal: complete lines are appended, redrawn lines are replaced.

    A progress bar that ends with the cursor in its line never appears; one of several lines does not stay. The file is
    opened at the first complete line. If it cannot be written, a warning is printed and the command continues.

    Args:
        path: the file; lines are appended to an existing one.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lines, self._row, self._column = [""], 0, 0
        self._file: BinaryIO | None = None
        self._start, self._shown = 0, b""  # offset in the file of the first kept line, and the text from there
        self._process, self._lock, self._failed = os.getpid(), Lock(), False

    def write(self, text: str) -> None:
        """Show a text; has no effect in a forked process, whose file position would be another."""
        if self._failed or os.getpid() != self._process:
            return
        with self._lock:
            end = 0
            for found in _CONTROL.finditer(text):
                self._put(text[end : found.start()])
                self._control(found[0])
                end = found.end()
            self._put(text[end:])
            while len(self._lines) > self._row + 1 and not self._lines[-1].strip():
                self._lines.pop()
            self._save(self._lines[:-1])

    def close(self) -> None:
        """Write the last line, also if it is incomplete, and close the file."""
        with self._lock:
            if os.getpid() == self._process and not self._failed:
                self._save(self._lines if self._lines[-1] else self._lines[:-1])
            if self._file is not None:
                self._file.close()
            self._failed = True

    def _put(self, text: str) -> None:
        if text:
            line, end = self._lines[self._row].ljust(self._column), self._column + len(text)
            self._lines[self._row] = line[: self._column] + text + line[end:]
            self._column = end

    def _control(self, code: str) -> None:
        kind, count = code[-1], int(code[2:-1]) if code[2:-1].isdecimal() else None
        if code == "\r":
            self._column = 0
        elif code == "\n":
            self._down(1)
            self._column = 0
        elif not code.startswith("\x1b["):
            return
        elif kind == "A":
            self._row = max(0, self._row - (count or 1))
        elif kind == "B":
            self._down(count or 1)
        elif kind == "K":
            line = self._lines[self._row]
            self._lines[self._row] = line[: self._column] if not count else ""

    def _down(self, count: int) -> None:
        self._row += count
        self._lines += [""] * (self._row + 1 - len(self._lines))

    def _save(self, lines: list[str]) -> None:
        """Make the file end with the given lines."""
        text = "".join(line.rstrip() + "\n" for line in lines).encode("utf-8", "replace")
        if text == self._shown:
            return
        try:
            self._replace(text)
        except OSError as error:
            self._failed = True
            print(f"warning: {self.path}: {error.strerror}; the output is not logged any more.", file=sys.stderr)
            return
        for line in self._lines[: max(0, min(self._row, len(lines)) - _KEPT_LINES)]:
            self._start += (size := len((line.rstrip() + "\n").encode("utf-8", "replace")))
            self._shown = self._shown[size:]
            self._row -= 1
            del self._lines[0]

    def _replace(self, text: bytes) -> None:
        if self._file is None:
            self._file = cast(BinaryIO, self.path.open("ab", buffering=0))
            self._start = self._file.seek(0, os.SEEK_END)
        equal = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(self._shown, text, strict=False)))
        if equal < len(self._shown):
            self._file.truncate(self._start + equal)
        self._file.write(text[equal:])
        self._shown = text


_current: ScreenLog | None = None


def copy_to_log(text: str) -> None:
    """Add a text to the current log, if there is one."""
    if _current is not None:
        _current.write(text)


def start_log(path: Path | None) -> None:
    """Close the current log and copy all further output to another one; None: to no file."""
    global _current
    if _current is not None:
        _current.close()
    _current = None if path is None else ScreenLog(path)


@contextmanager
def log_output(path: Path | None) -> Iterator[None]:
    """Copy the output of a block to a log file."""
    start_log(path)
    try:
        yield
    finally:
        start_log(None)


def job_log_path() -> Path | None:
    """Return the log file of the current Hydra job; None for a command without a run directory."""
    from hydra.core.hydra_config import HydraConfig

    file = HydraConfig.get().job_logging.get("handlers", {}).get("file", {})
    name = file.get("filename")
    return None if name in (None, os.devnull) else Path(str(name))

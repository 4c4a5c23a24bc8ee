"""Standard output and error that cannot fail a command: narrow encodings, closed pipes, full disks."""

from __future__ import annotations

import logging
import os
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any, TextIO

from stemlab.config.screen_log import copy_to_log, start_log


class RobustStream:
    """Text stream that replaces characters its encoding lacks and drops output that nobody reads.

    After a write failed (``| head`` has closed the pipe, the disk of a redirected output is full), the file descriptor
    points to the null device, so that neither this process nor the interpreter at its end fails.

    Args:
        stream: the stream to write to.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        """Write a text, also to the log of the command; return its length."""
        try:
            self._write(text)
        except OSError:
            self._give_up()
        copy_to_log(text)  # last: it may print a warning
        return len(text)

    def _write(self, text: str) -> None:
        try:
            self._stream.write(text)
        except UnicodeEncodeError:
            encoding = self._stream.encoding or "ascii"
            self._stream.write(text.encode(encoding, errors="replace").decode(encoding))

    def writelines(self, lines: Iterator[str]) -> None:
        """Write several texts."""
        for line in lines:
            self.write(line)

    def flush(self) -> None:
        """Flush the stream."""
        try:
            self._stream.flush()
        except OSError:
            self._give_up()

    def _give_up(self) -> None:
        with suppress(OSError, ValueError):  # a stream in memory has no file descriptor
            null = os.open(os.devnull, os.O_WRONLY)
            os.dup2(null, self._stream.fileno())
            os.close(null)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


@contextmanager
def robust_output() -> Iterator[None]:
    """Make standard output and error robust; flush and restore them and close the log of the command afterwards.

    Log handlers of libraries whose file cannot be written print no tracebacks, also while the interpreter ends.
    """
    before, logging.raiseExceptions = (sys.stdout, sys.stderr), False
    sys.stdout, sys.stderr = (RobustStream(stream) for stream in before)
    try:
        yield
    except Exception:
        copy_to_log(traceback.format_exc())  # the interpreter shows it later
        raise
    finally:
        start_log(None)
        with suppress(ValueError):  # closed
            sys.stdout.flush()
        with suppress(ValueError):
            sys.stderr.flush()
        sys.stdout, sys.stderr = before

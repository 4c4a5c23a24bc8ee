"""Printing never fails a command."""

import io
import os
import subprocess
import sys
from pathlib import Path

import pytest

from stemlab.config.output_streams import RobustStream, robust_output

TEXT = "┏━━━ test metrics ✓ é 中\n"


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "cp1252", "utf-8"])
def test_characters_that_the_encoding_lacks_are_replaced(encoding: str, monkeypatch: pytest.MonkeyPatch) -> None:
    raw = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(raw, encoding=encoding))
    with robust_output():
        print(TEXT, end="")
    assert raw.getvalue().decode(encoding).endswith("\n")
    assert b"test metrics" in raw.getvalue()
    assert ("✓" in raw.getvalue().decode(encoding)) == (encoding == "utf-8")


def test_a_closed_pipe_and_a_full_disk_do_not_raise() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    with Path("/dev/full").open("w") as full, os.fdopen(writer, "w") as pipe:
        for stream in (full, pipe):
            robust = RobustStream(stream)
            for _ in range(3):
                print("x" * 100_000, file=robust, flush=True)


def test_streams_are_restored() -> None:
    before = sys.stdout, sys.stderr
    with pytest.raises(ValueError, match="error"), robust_output():
        raise ValueError("error")
    assert (sys.stdout, sys.stderr) == before


@pytest.mark.process
@pytest.mark.parametrize("arguments", [[], ["--help"], ["nothing"]])
def test_a_command_whose_reader_has_gone_ends_without_a_traceback(arguments: list[str]) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    words = [sys.executable, "-m", "stemlab", *arguments]
    done = subprocess.run(words, stdout=writer, stderr=subprocess.PIPE, text=True, check=False)
    os.close(writer)
    assert done.returncode == (2 if arguments == ["nothing"] else 0)
    assert "Traceback" not in done.stderr
    assert "BrokenPipe" not in done.stderr

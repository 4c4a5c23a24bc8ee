"""The log holds the lines that the screen showed, without bars and colours."""

import io
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from rich.console import Console
from rich.progress import Progress

from stemlab.config.output_streams import RobustStream, robust_output
from stemlab.config.screen_log import ScreenLog, log_output, start_log


@pytest.fixture
def path(tmp_path: Path) -> Iterator[Path]:
    yield tmp_path / "train.log"
    start_log(None)


@pytest.mark.parametrize(
    ("shown", "logged"),
    [
        ("one\ntwo\n", "one\ntwo\n"),
        ("no end of line", "no end of line\n"),
        ("\x1b[1;31mred\x1b[0m text\n", "red text\n"),
        ("10 %\r50 %\r\x1b[2Kdone\n", "done\n"),
        ("bar\nbar\r\x1b[2K\x1b[1A\x1b[2Kline\nbar\nbar\r\x1b[2K\x1b[1A\x1b[2Kend\n", "line\nend\n"),
        ("abc\rX\n", "Xbc\n"),
        ("\x1b]8;id=1;https://a.b\x1b\\link\x1b]8;;\x1b\\\n", "link\n"),
        ("epoch 1 é 中 ✓\n", "epoch 1 é 中 ✓\n"),
    ],
)
def test_lines_are_logged_as_they_stand_on_the_screen(shown: str, logged: str, path: Path) -> None:
    log = ScreenLog(path)
    log.write(shown)
    log.close()
    assert path.read_text(encoding="utf-8") == logged


def test_complete_lines_are_in_the_file_at_once_and_follow_earlier_ones(path: Path) -> None:
    path.write_text("first run\n")
    log = ScreenLog(path)
    for number in range(200):
        log.write(f"line {number}\n")
        assert path.read_text().endswith(f"line {number}\n")
    assert path.read_text().splitlines() == ["first run", *(f"line {number}" for number in range(200))]


def test_a_bar_of_rich_leaves_the_lines_printed_above_it(path: Path) -> None:
    screen = io.StringIO()
    console = Console(file=RobustStream(screen), force_terminal=True, width=60)  # type: ignore[arg-type]
    with log_output(path), Progress(console=console, transient=True, refresh_per_second=50) as bars:
        first, second = bars.add_task("training", total=40), bars.add_task("validation", total=40)
        for step in range(40):
            bars.advance(first)
            bars.update(second, advance=1, visible=step % 3 > 0)
            time.sleep(0.002)
            console.print(f"step {step}")
    assert "training" in screen.getvalue()
    assert path.read_text().split("\n") == [*(f"step {step}" for step in range(40)), ""]


def test_both_streams_of_a_command_and_its_traceback_are_logged(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def command() -> None:
        with robust_output():
            start_log(path)
            print("out")
            print("err", file=sys.stderr)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        command()
    print("after")
    logged = path.read_text().splitlines()
    assert logged[:2] == ["out", "err"]
    assert logged[2].startswith("Traceback")
    assert "ZeroDivisionError" in logged[-1]


def test_a_log_that_cannot_be_written_does_not_fail_the_command(capsys: pytest.CaptureFixture[str]) -> None:
    for place in ("/dev/full", "/proc/nothing/train.log"):
        with robust_output(), log_output(Path(place)):
            print("shown")
        said = capsys.readouterr()
        assert said.out == "shown\n"
        assert said.err.count(place) == 1


def test_a_forked_process_does_not_write_into_the_log(path: Path) -> None:
    log = ScreenLog(path)
    log.write("parent\n")
    if os.fork() == 0:
        log.write("child\n")
        log.close()
        os._exit(0)
    os.wait()
    log.write("parent again\n")
    assert path.read_text() == "parent\nparent again\n"

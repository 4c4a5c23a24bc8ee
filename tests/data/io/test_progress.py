import io

from rich.console import Console

from stemlab.data.io import progress as progress_module


def test_bars_count_rows_and_megabytes(monkeypatch):
    screen = io.StringIO()
    console = Console(file=screen, force_terminal=True, width=150)
    monkeypatch.setattr(progress_module, "Console", lambda stderr: console)
    with progress_module.ProgressBars() as progress:
        progress.rows("counting", 2000)(1500)
        progress.bytes("reading", 4_000_000)(1_000_000)
        progress._bars.refresh()
    assert "1,500 / 2,000 rows" in screen.getvalue()
    assert "1 / 4 MB" in screen.getvalue()


def test_no_output_without_a_terminal(capfd):
    with progress_module.ProgressBars() as progress:
        progress.rows("counting", 10)(10)
    assert capfd.readouterr() == ("", "")

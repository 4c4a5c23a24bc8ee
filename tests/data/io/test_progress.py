import io

from rich.console import Console

from stemlab.data.io import progress


def test_bars_count_rows_and_megabytes(monkeypatch):
    screen = io.StringIO()
    console = Console(file=screen, force_terminal=True, width=150)
    monkeypatch.setattr(progress, "Console", lambda stderr: console)
    with progress.Steps() as steps:
        steps.rows("counting", 2000)(1500)
        steps.bytes("reading", 4_000_000)(1_000_000)
        steps._bars.refresh()
    assert "1,500 / 2,000 rows" in screen.getvalue()
    assert "1 / 4 MB" in screen.getvalue()


def test_silent_where_nobody_watches(capfd):
    with progress.Steps() as steps:
        steps.rows("counting", 10)(10)
    assert capfd.readouterr() == ("", "")

"""The speed table is what the committed measurements give."""

import subprocess
import sys


def run(root, *words):
    command = [sys.executable, "scripts/bench/table.py", *words]
    return subprocess.run(command, cwd=root, capture_output=True, text=True)


def test_the_page_holds_what_was_measured(root):
    ended = run(root, "--check")
    assert ended.returncode == 0, ended.stderr


def test_a_typed_number_would_be_noticed(root, tmp_path):
    for part in ("scripts/bench/results", "scripts/bench/table.py", "scripts/bench/README.md"):
        target = tmp_path / part
        target.parent.mkdir(parents=True, exist_ok=True)
        subprocess.run(["cp", "-r", root / part, target], check=True)
    page = tmp_path / "scripts/bench/README.md"
    page.write_text(page.read_text().replace("| gAUC, 1,000,000 rows", "| gAUC, 9,000,000 rows"))
    ended = run(tmp_path, "--check")
    assert ended.returncode == 1
    assert "table 'speed' is not what the run records give" in ended.stderr

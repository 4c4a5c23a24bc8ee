"""The benchmark of the analyses measures the commands on real runs."""

import json
import os
import re
import runpy
import subprocess
import sys

import pytest

SIZES = {"rows": 300, "items": 100, "width": 4, "pairs": 700}
WORDS = [f"--{key}={value}" for key, value in SIZES.items()]


def start(root, tmp_path, *words):
    """Run the benchmark with its temporary files in ``tmp_path``."""
    command = [sys.executable, str(root / "scripts" / "bench" / "analysis.py"), *words]
    variables = {**os.environ, "OMP_NUM_THREADS": "1", "TMPDIR": str(tmp_path)}
    return subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, env=variables)


@pytest.mark.slow
def test_the_commands_are_measured(root, tmp_path):
    result = tmp_path / "analysis.json"
    ended = start(root, tmp_path, *WORDS, "--threads=1", f"--output={result}")
    assert ended.returncode == 0, ended.stderr
    measured = json.loads(result.read_text())
    assert {key: measured[key] for key in SIZES} == SIZES
    assert measured["threads"] == 1
    for name in ("collapse", "entanglement"):
        taken = measured[name]
        assert taken["progress_bar"]
        assert taken["cpu_seconds"] > 0.5  # imports alone take longer
        assert 10**8 < taken["peak_bytes"] < 4 * 10**9
    assert measured["checkpoint_bytes"] > 3 * 4 * SIZES["width"] * (SIZES["rows"] + SIZES["items"])  # with two moments
    assert " pairs " in ended.stdout
    assert list(tmp_path.glob("analysis-bench-*")) == []


def test_more_items_than_users_are_refused(root, tmp_path, monkeypatch):
    folder = root / "scripts" / "bench"
    monkeypatch.syspath_prepend(str(folder))
    monkeypatch.setattr(sys, "argv", ["analysis.py", "--rows=10", "--items=11", f"--output={tmp_path / 'none.json'}"])
    with pytest.raises(SystemExit) as ended:
        runpy.run_path(str(folder / "analysis.py"), run_name="__main__")
    assert re.search("--items 11 .*--rows 10", str(ended.value.code))  # a text: the exit status is 1
    assert not (tmp_path / "none.json").exists()

"""scripts/analyze_ml1m.sh: its trainings compose, and it analyses the runs that it trains."""

import re
import subprocess
from pathlib import Path

import pytest

from stemlab.config.compose import compose

FAKE = """#!/usr/bin/env bash
# Replaces python: logs its arguments; a training finishes at once.
echo "$*" >>{log}
folder=${{!#}}
folder=${{folder#hydra.run.dir=}}
[[ $* == *stemlab.train* ]] || exit 0
mkdir -p "$folder" && echo '{{"status": "finished"}}' >"$folder/record.json"
"""


@pytest.fixture
def calls(root: Path, tmp_path: Path) -> list[list[str]]:
    """Arguments of every call of python, without ``-m``."""
    python, log, raw = tmp_path / "python", tmp_path / "log", tmp_path / "raw"
    python.write_text(FAKE.format(log=log))
    python.chmod(0o755)
    raw.mkdir()
    (raw / "ratings.dat").touch()
    env = {"PATH": "/usr/bin:/bin", "PYTHON": str(python), "RUNS": f"{tmp_path}/runs", "PAGES": f"{tmp_path}/pages"}
    done = subprocess.run(
        ["bash", "scripts/analyze_ml1m.sh", str(raw)], cwd=root, env=env, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return [line.split()[1:] for line in log.read_text().splitlines()]


def test_trainings_compose_and_have_their_own_folders(calls: list[list[str]]) -> None:
    jobs = [overrides[:-1] for command, *overrides in calls if command == "stemlab.train"]
    configs = [compose("train", overrides) for overrides in jobs]
    assert len({overrides[-1] for command, *overrides in calls if command == "stemlab.train"}) == len(jobs) == 13
    assert [config["model"]["name"] for config in configs[-5:]] == ["dcnv2", "dcnv2_me", "tin", "din", "din_plus"]
    assert [config["seed"] for config in configs] == [2023] * 6 + [76] * 2 + [2023] * 2 + [1] * 3


def test_what_is_analysed_was_trained(calls: list[list[str]], root: Path) -> None:
    trained = {
        overrides[-1].removeprefix("hydra.run.dir=") for command, *overrides in calls if command == "stemlab.train"
    }
    analysed = {}
    for _, name, runs, _ in (overrides for overrides in calls if overrides[0] == "stemlab.analyze"):
        places = re.fullmatch(r"runs=\[(.*)\]", runs)
        assert places
        analysed[name.removeprefix("analysis=")] = set(places[1].split(","))
    assert set.union(*analysed.values()) == trained
    pages = {path.parent.name for path in (root / "scripts/records/analysis").glob("*/results.json")}
    assert set(analysed) == pages - {"demo"}
    control = {place for place in analysed["entanglement"] if place.endswith("seed76")}
    assert len(control) == 2
    assert analysed["transfer"] == analysed["comparable"] == analysed["entanglement"] - control


def test_a_folder_without_ratings_is_refused(root: Path, tmp_path: Path) -> None:
    done = subprocess.run(["bash", "scripts/analyze_ml1m.sh", str(tmp_path)], cwd=root, capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stderr.startswith("error: ")
    assert f"{tmp_path}/ratings.dat" in done.stderr
    assert "data/README.md" in done.stderr
    assert done.stderr.count("\n") == 1

"""scripts/study.sh: finished runs are skipped, interrupted ones are resumed in their directory."""

import subprocess
from pathlib import Path

import pytest

FAKE = """#!/usr/bin/env bash
# Replaces python: logs its arguments, writes a checkpoint, and finishes unless {stop} exists.
echo "$*" >>{log}
folder=${{!#}}
folder=${{folder#hydra.run.dir=}}
mkdir -p "$folder/checkpoints"
echo "$*" >"$folder/metrics.csv"
echo state >"$folder/checkpoints/last.ckpt"
status=finished
[[ -e {stop} ]] && status=interrupted
echo "{{\\"status\\": \\"$status\\"}}" >"$folder/record.json"
[[ $status == finished ]]
"""


class Study:
    def __init__(self, root: Path, folder: Path) -> None:
        self.root, self.folder, self.log, self.stop = root, folder, folder / "log", folder / "stop"
        self.python = folder / "python"
        self.python.write_text(FAKE.format(log=self.log, stop=self.stop))
        self.python.chmod(0o755)

    def train(self) -> tuple[int, str]:
        line = f"{self.folder}/runs/a experiment=x seed=1\n{self.folder}/runs/b seed=2"
        script = f'set -euo pipefail; source scripts/study.sh; printf "%s\\n" "{line}" | train_all'
        done = subprocess.run(
            ["bash", "-c", script],
            cwd=self.root,
            env={"PATH": "/usr/bin:/bin", "PYTHON": str(self.python)},
            capture_output=True,
            text=True,
        )
        return done.returncode, done.stdout + done.stderr

    def calls(self) -> list[str]:
        return self.log.read_text().replace(str(self.folder), "").splitlines()


@pytest.fixture
def study(root: Path, tmp_path: Path) -> Study:
    return Study(root, tmp_path)


def test_each_run_is_trained_once(study: Study) -> None:
    assert study.train()[0] == 0
    assert study.calls() == [
        "-m stemlab.train experiment=x seed=1 resume=auto hydra.run.dir=/runs/a",
        "-m stemlab.train seed=2 resume=auto hydra.run.dir=/runs/b",
    ]
    code, result = study.train()
    assert (code, result.count("finished:")) == (0, 2)
    assert len(study.calls()) == 2


def test_an_interrupted_run_is_resumed_in_its_directory(study: Study) -> None:
    study.stop.touch()
    code, result = study.train()
    assert code != 0
    assert result.count("FAILED") == 2
    output = study.folder / "runs/a/output.txt"
    output.write_text("earlier part")
    study.stop.unlink()
    assert study.train()[0] == 0
    first, again = (call for call in study.calls() if "seed=1 " in call)
    assert first == again
    assert (study.folder / "runs/a/checkpoints/last.ckpt").exists()
    assert output.read_text().startswith("earlier part")

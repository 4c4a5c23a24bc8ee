"""scripts/study.sh: finished runs are skipped, interrupted ones are resumed and their files kept."""

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
[[ -e {stop}.early ]] && exit 1
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
        "-m stemlab.train experiment=x seed=1 hydra.run.dir=/runs/a",
        "-m stemlab.train seed=2 hydra.run.dir=/runs/b",
    ]
    code, result = study.train()
    assert (code, result.count("finished:")) == (0, 2)
    assert len(study.calls()) == 2


def test_an_interrupted_run_is_resumed(study: Study) -> None:
    study.stop.touch()
    code, result = study.train()
    assert code != 0
    assert result.count("FAILED") == 2
    Path(f"{study.stop}.early").touch()  # ended again before its first epoch did
    study.train()
    Path(f"{study.stop}.early").unlink()
    study.train()
    study.stop.unlink()
    assert study.train()[0] == 0
    words = [call.split("seed=1 ")[1].split(" hydra")[0] for call in study.calls() if "seed=1 " in call]
    runs = [word.removeprefix("ckpt_path=/runs/a/") for word in words]
    assert runs[1:] == [f"part{n}/checkpoints/last.ckpt" for n in (1, 1, 2)]
    folder = study.folder / "runs/a"
    assert sorted(path.name for path in folder.glob("part*")) == ["part1", "part2"]
    assert [path.parent.name for path in folder.rglob("record.json")] == ["a"]
    assert (folder / "part1/metrics.csv").read_text() != (folder / "metrics.csv").read_text()

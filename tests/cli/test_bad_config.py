"""Real processes: a mistake is one sentence and status 2, and nothing is written."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


def run(module, *words, cwd):
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "COLUMNS": "80"}
    command = [sys.executable, "-m", module, *words]
    return subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, timeout=120, check=False)


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["model=stm"], "there is no conf/model/stm.yaml. Did you mean 'stem'?"),
        (["optim.lrr=1"], "optim.lrr (set on the command line) is not a setting. Did you mean 'lr'?"),
        (["sede=1"], "sede (set on the command line) is not a setting. Did you mean 'seed'?"),
        (["model=stem,mmoe"], "add -m to run a job for each of them."),
        (["seed"], "'seed' on the command line is not of the form key=value."),
        (["--sed", "1"], "unrecognized arguments: --sed"),
        (["model=esmm", "dataset.tasks=[a,b,c]"], "ESMM needs exactly two tasks"),
        (["model.net.embedding_dim=-1"], "must be greater than 0."),
        (["model=stem,mmoe", "-m", "model.net.num_layers=1"], "model.net.num_layers (set on the command line) is not"),
        (["experiment=tiktok/stm"], "Did you mean 'tiktok/stem'?"),
    ],
)
def test_train_refuses(tmp_path, words, expected):
    done = run("stemlab.train", *words, cwd=tmp_path)
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.startswith("error: ")
    assert done.stderr.count("\n") == 1
    assert expected in done.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("module", "words", "expected"),
    [
        ("stemlab.evaluate", [], "ckpt has no value (??? in conf/evaluate.yaml): write ckpt=... on the command line."),
        ("stemlab.predict", ["ckpt=a.ckpt"], "output has no value (??? in conf/predict.yaml)"),
        ("stemlab.prepare", ["dataset=tiktk"], "there is no conf/dataset/tiktk.yaml. Did you mean 'tiktok'?"),
        ("stemlab.prepare", ["dataset.min_count=0"], "dataset.min_count=0 (set on the command line) must be"),
        ("stemlab.report", ["split=tst"], "split='tst' (set on the command line) must be one of test, val."),
        ("stemlab.report", ["metrcs=[auc]"], "is not a setting. Did you mean 'metrics'?"),
        ("stemlab", ["tran"], "there is no command 'tran'. Did you mean 'train'?"),
        ("stemlab", ["train", "model=stm"], "there is no conf/model/stm.yaml. Did you mean 'stem'?"),
    ],
)
def test_other_commands_refuse(tmp_path, module, words, expected):
    done = run(module, *words, cwd=tmp_path)
    assert done.returncode == 2
    assert done.stderr.startswith("error: ")
    assert done.stderr.count("\n") == 1
    assert expected in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_the_list_of_commands(tmp_path):
    done = run("stemlab", cwd=tmp_path)
    assert done.returncode == 0
    for name in ("train", "evaluate", "predict", "prepare", "report"):
        assert f"\n  {name} " in done.stdout


def test_the_composed_config_is_shown_without_running(tmp_path):
    done = run("stemlab", "train", "--cfg", "job", "model=ple", cwd=tmp_path)
    assert done.returncode == 0
    assert "_target_: stemlab.models.multitask.ple.PLE" in done.stdout
    assert list(tmp_path.iterdir()) == []


def test_every_listed_command_exists():
    from importlib.util import find_spec

    from stemlab.__main__ import COMMAND_HELP

    assert [name for name in COMMAND_HELP if find_spec(f"stemlab.{name}") is None] == []

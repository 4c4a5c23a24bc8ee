"""A mistake on the command line ends in one sentence and exit status 2; nothing is written."""

import pytest

from tests.cli.commands import Workspace


@pytest.fixture
def empty(tmp_path):
    return Workspace(tmp_path)


def check_refusal(done, workspace, hints):
    assert done.stdout == ""
    assert done.stderr.startswith("error: ")
    assert done.stderr.count("\n") == 1
    assert [hint for hint in hints.split() if hint not in done.stderr] == []
    assert list(workspace.directory.iterdir()) == []


@pytest.mark.parametrize(
    ("overrides", "hints"),
    [
        (["model=stm"], "conf/model/stm.yaml 'stem'"),
        (["optim.lrr=1"], "optim.lrr 'lr'"),
        (["sede=1"], "sede 'seed'"),
        (["model=stem,mmoe"], "-m"),
        (["seed"], "'seed' key=value"),
        (["--sed", "1"], "--sed"),
        (["model=esmm", "dataset.tasks=[a,b,c]"], "ESMM two tasks"),
        (["model.net.embedding_dim=-1"], "model.net.embedding_dim=-1"),
        (["model=stem,mmoe", "-m", "model.net.num_layers=1"], "model.net.num_layers"),
        (["experiment=tiktok/stm"], "'tiktok/stem'"),
        (["--cfg", "job", "-m", "seed=1,2"], "--cfg -m"),
    ],
)
def test_train_refuses(empty, overrides, hints):
    check_refusal(empty.run("train", *overrides, status=2), empty, hints)


@pytest.mark.process
@pytest.mark.parametrize(("command", "overrides"), [("train", ["model=stm"]), ("", ["train", "model=stm"])])
def test_a_process_exits_with_2(empty, command, overrides):
    check_refusal(empty.run_process(command, *overrides, status=2), empty, "conf/model/stm.yaml 'stem'")


@pytest.mark.parametrize(
    ("command", "overrides", "hints"),
    [
        ("evaluate", [], "conf/evaluate.yaml ckpt=..."),
        ("predict", ["ckpt=a.ckpt"], "output conf/predict.yaml"),
        ("prepare", ["dataset=tiktk"], "conf/dataset/tiktk.yaml 'tiktok'"),
        ("prepare", ["dataset.min_count=0"], "dataset.min_count=0"),
        ("report", ["split=tst"], "split='tst' test val"),
        ("report", ["metrcs=[auc]"], "metrcs 'metrics'"),
        ("", ["tran"], "'tran' 'train'"),
        ("", ["train", "model=stm"], "conf/model/stm.yaml 'stem'"),
    ],
)
def test_other_commands_refuse(empty, command, overrides, hints):
    check_refusal(empty.run(command, *overrides, status=2), empty, hints)


@pytest.mark.process
def test_the_list_of_commands(empty):
    done = empty.run_process("")
    for name in ("train", "evaluate", "predict", "prepare", "report"):
        assert f"\n  {name} " in done.stdout


def test_the_composed_config_is_shown_without_running(empty):
    done = empty.run("", "train", "--cfg", "job", "model=ple")
    assert "_target_: stemlab.models.multitask.ple.PLE" in done.stdout
    assert list(empty.directory.iterdir()) == []


def test_every_listed_command_exists():
    from importlib.util import find_spec

    from stemlab.__main__ import COMMAND_HELP

    assert [name for name in COMMAND_HELP if find_spec(f"stemlab.{name}") is None] == []

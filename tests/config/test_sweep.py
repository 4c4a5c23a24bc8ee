"""Jobs of a sweep are composed and validated before the first one starts."""

import json
import re

import pytest

from stemlab.config import sweep
from stemlab.config.compose import CommandLine, compose_job
from stemlab.config.sweep import check_command_line, hydra_arguments
from stemlab.errors import StemlabError
from tests.config.conftest import TOY


def line(*words, extra=TOY, multirun=True):
    return CommandLine("train", ("dataset=toy", *words), multirun, extra=extra)


def test_sweep_is_recognised():
    assert check_command_line(line("seed=1", multirun=False)) is False
    assert check_command_line(line("seed=1")) is True


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (("model=stem,mmo", "seed=1,2"), "model=mmo on the command line: there is no conf/model/mmo.yaml"),
        (("model=stem,esmm", "dataset.tasks=[a,b,c]"), "ESMM needs exactly two tasks"),
        (("model=stem", "seed=1,2,-3"), "seed=-3 (set on the command line) must be at least 0."),
        (("model=stem,mmoe", "model.net.num_layers=1"), "model.net.num_layers (set on the command line) is not"),
        (("seed=1,2", "optim.lr=0.1,0"), "optim.lr=0 (set on the command line) must be greater than 0."),
        (("+sede=1,2",), "sede (set on the command line) is not a setting. Did you mean 'seed'?"),
        (("sede=1,2",), "sede (set on the command line) is not a setting. Did you mean 'seed'?"),
    ],
)
def test_all_jobs_are_checked_before_the_first_runs(words, expected):
    with pytest.raises(StemlabError) as caught:
        check_command_line(line(*words))
    assert expected in str(caught.value)


def test_a_swept_monitor_brings_its_own_mode():
    assert check_command_line(line("callbacks.checkpoint.monitor=val/auc,val/logloss")) is True
    with pytest.raises(StemlabError, match=r"checkpoint\.mode=max"):
        check_command_line(line("callbacks.checkpoint.monitor=val/auc,val/logloss", "callbacks.checkpoint.mode=max"))


def test_a_swept_task_brings_its_own_monitor(tmp_path, monkeypatch):
    """The monitor of a regression task is another one; so is the default number of epochs of another model."""
    seen = []
    validate = sweep.validate
    monkeypatch.setattr(
        sweep, "validate", lambda command, plain, origin: seen.append(plain) or validate(command, plain)
    )
    (tmp_path / "rows.csv").write_text("u,click,watch\n" + "".join(f"{k},{k % 2},{k / 2}\n" for k in range(20)))
    columns = ("dataset.tasks=[click,watch]", "dataset.fields=[u]", "dataset.labels={watch:{kind:regression}}")
    words = ("dataset=table", f"dataset.path={tmp_path / 'rows.csv'}", *columns, "model=single_task")
    assert check_command_line(CommandLine("train", (*words, "model.task=click,watch"), multirun=True)) is True
    assert [plain["objective"] for plain in seen] == ["val/auc", "val/rmse"]
    seen.clear()
    check_command_line(CommandLine("train", ("model=timirec", "dataset=ml1m", "model.max_epochs=3,4"), multirun=True))
    assert [plain["trainer"]["max_epochs"] for plain in seen] == [3, 4]


def test_an_error_names_the_job_of_a_sweep():
    words = ("model=mmoe,shared_bottom", "seed=1,2", "model.net.expert_hidden_units=[16]")
    with pytest.raises(StemlabError, match=r"job 3 of 4: model=shared_bottom seed=1\)"):
        check_command_line(CommandLine("train", words, multirun=True))


def test_wrong_value_in_one_of_many_jobs_is_reported():
    seeds = ",".join(str(seed) for seed in range(200))
    with pytest.raises(StemlabError, match=r"^model.net.embedding_dim=0 "):
        check_command_line(line(f"seed={seeds}", "model.net.embedding_dim=1,2,0"))


def test_a_large_sweep_is_checked_without_composing_every_job(monkeypatch):
    """A composition takes 0.3 s; jobs that differ in values only must share one."""
    composed, reports = [], []
    monkeypatch.setattr(sweep, "compose_job", lambda *words: composed.append(words) or compose_job(*words))
    words = ("model=stem,mmoe", "seed=range(0,250)", "tags=[a],[b]", "callbacks.early_stop.patience=1,2")
    assert check_command_line(line(*words), reports.append) is True
    assert len(composed) == 2
    assert len(reports) == 2
    assert all("2,000 jobs" in report for report in reports)


def test_a_mapping_in_a_sweep_is_merged_as_hydra_does(monkeypatch):
    seen = []
    monkeypatch.setattr(sweep, "validate", lambda command, plain, origin: seen.append(plain["optim"]))
    check_command_line(line("seed=1,2", "optim={lr:0.1},{eps:0.2}"))
    assert [(one["lr"], one["eps"]) for one in seen] == [(0.1, 1e-8), (1e-3, 0.2)] * 2


def test_sweep_file_starts_a_sweep_and_is_checked(tmp_path):
    (tmp_path / "dataset").mkdir()
    (tmp_path / "dataset" / "toy.yaml").write_text((TOY / "dataset" / "toy.yaml").read_text())
    (tmp_path / "sweep").mkdir()
    text = "# @package _global_\nhydra:\n  mode: MULTIRUN\n  sweeper:\n    params:\n      optim.lr: 0.1,%s\n"
    (tmp_path / "sweep" / "lr.yaml").write_text(text % "0.2")
    assert check_command_line(line("sweep=lr", extra=tmp_path, multirun=False)) is True
    (tmp_path / "sweep" / "lr.yaml").write_text(text % "-0.2")
    with pytest.raises(StemlabError, match=rf"^optim.lr=-0.2 \(set in {tmp_path}/sweep/lr.yaml\)"):
        check_command_line(line("sweep=lr", extra=tmp_path, multirun=False))


def test_value_of_a_swept_group_need_not_fit_the_default_option():
    words = line("model=mmoe,omoe", "model.net.num_experts=4", "optim.lr=0.1", "paths.runs_dir=r")
    assert check_command_line(words) is True
    assert hydra_arguments(words) == [
        "dataset=toy",
        "model=mmoe,omoe",
        "model.net.num_experts=choice(4)",
        "optim.lr=choice(0.1)",  # the model selects the optimiser
        "paths.runs_dir=r",
    ]


def test_each_job_has_its_own_directory(program, tmp_path):
    done = program("model=mmoe,omoe", "-m", "model.net.num_experts=4", "seed=1,2", STEMLAB_SWEEP_ID="mine")
    assert done.returncode == 0, done.stderr
    records = [json.loads(path.read_text()) for path in sorted(tmp_path.glob("runs/sweeps/mine/*/record.json"))]
    names = sorted(path.name for path in tmp_path.glob("runs/sweeps/mine/*/"))
    assert "checked 4 jobs" in done.stdout
    assert names == ["0_mmoe_seed1", "1_mmoe_seed2", "2_omoe_seed1", "3_omoe_seed2"]
    assert [(record["model"], record["seed"]) for record in records] == [
        ("mmoe", 1),
        ("mmoe", 2),
        ("omoe", 1),
        ("omoe", 2),
    ]


def test_failing_job_does_not_stop_the_others(program, tmp_path):
    done = program("-m", "seed=1,2,3", "tags=[odd]")
    assert done.returncode == 2
    assert re.search(r"error: 2 sweep jobs .* row 7 has 11 columns\.", done.stderr)
    assert "Traceback" not in done.stderr
    assert len(list(tmp_path.glob("runs/sweeps/*/1_stem_seed2/record.json"))) == 1

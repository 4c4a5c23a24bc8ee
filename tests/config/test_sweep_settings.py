"""Settings of a sweep that do not fit together, and the words of sweep.resume."""

import json
import os
import re

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser

from stemlab.config.compose import CommandLine
from stemlab.config.sweep import check_command_line
from stemlab.config.sweep_resume import SWEEP_ID, names_a_sweep, read_commands, resumed_sweep_words, with_command
from stemlab.config.sweep_settings import check_sweep
from stemlab.errors import StemlabError

BASIC = "hydra._internal.core_plugins.basic_launcher.BasicLauncher"


def check(*words, launcher=BASIC, objective="val/auc", devices=1, **settings):
    plain = {"jobs": 1, "resume": None, "sampler": None, "trials": None, "pruner": "none", "reduction_factor": 3}
    config = {
        "sweep": {**plain, **settings},
        "objective": objective,
        "trainer": {"devices": devices},
        "callbacks": {"checkpoint": {"monitor": "val/auc"}},
    }
    check_sweep(config, OverridesParser.create().parse_overrides(list(words)), launcher)


@pytest.mark.parametrize(
    ("words", "settings", "named"),
    [
        (["optim.lr=interval(0.1,0.2)"], {}, "interval"),
        (["seed=1,2"], {"pruner": "median"}, "needs sweep.sampler"),
        (["seed=1,2"], {"sampler": "tpe"}, "sweep.trials"),
        ([], {"sampler": "grid"}, "sweep/space"),
        (["seed=1,2"], {"sampler": "grid", "objective": "test/calibration/like"}, "objective"),
        (["seed=1,2"], {"sampler": "grid", "pruner": "median", "objective": "val/logloss"}, "checkpoint.monitor"),
        (["seed=1,2"], {"sampler": "grid", "pruner": "hyperband", "reduction_factor": 1}, "reduction_factor"),
        (["seed=1,2"], {"jobs": 2, "launcher": "JoblibLauncher"}, "launcher"),
        (["seed=1,2"], {"jobs": 2, "devices": [0, 1]}, "trainer.devices"),
        (["seed=1,2"], {"resume": "runs/sweeps/a"}, "command line"),
    ],
)
def test_settings_that_do_not_fit_are_refused(words, settings, named):
    with pytest.raises(StemlabError, match=named):
        check(*words, **settings)


@pytest.mark.parametrize(
    ("word", "named"),
    [
        ("model=glob(zz*)", "no value"),
        ("seed=range(3,1)", "no value"),
        ("optim.lr=interval(0.2,0.1)", "empty interval"),
        ("optim.lr=tag(lgo,interval(0.1,0.2))", "tag lgo"),
        ("optim.lr=tag(log,choice(0.1,0.2))", "tag log"),
        ("hydra.run.dir=r", r"hydra\.sweep\.dir"),
    ],
)
def test_values_of_a_sweep_that_nothing_can_follow_are_refused(word, named):
    with pytest.raises(StemlabError, match=f"{re.escape(word)}.*{named}"):
        check_command_line(CommandLine("train", ("model=mmoe", "dataset=tiktok", "seed=1,2", word), multirun=True))


def test_a_glob_of_options_is_swept_and_a_single_run_has_no_sweep_folder():
    words = ("model=glob(mm*e)", "dataset=tiktok")
    assert check_command_line(CommandLine("train", words, multirun=True))
    with pytest.raises(StemlabError, match=r"hydra\.sweep\.subdir=x.*hydra\.run\.dir"):
        check_command_line(CommandLine("train", ("model=mmoe", "dataset=tiktok", "hydra.sweep.subdir=x")))


def test_settings_that_fit_are_accepted():
    check("seed=1,2")
    check("seed=1,2", launcher="JoblibLauncher")
    check("seed=1,2", "optim.lr=interval(0.1,0.2)", sampler="tpe", trials=3, pruner="hyperband", jobs=2)


def test_a_resumed_sweep_repeats_its_command(tmp_path, monkeypatch):
    monkeypatch.setenv(SWEEP_ID, "")
    words = ["hydra.mode=MULTIRUN", "model=stem,ple", "sweep.jobs=2", "resume=never"]
    (tmp_path / "sweep.json").write_text(
        json.dumps({"id": "mine", "arguments": ["--config-dir", "c"], "overrides": words})
    )
    typed = ["-m", f"sweep.resume={tmp_path}", "sweep.jobs=4"]
    assert names_a_sweep(typed)
    assert not names_a_sweep(["sweep.resume=null", "sweep.jobs=2"])
    assert resumed_sweep_words(typed) == [
        *("--config-dir", "c", "-m", "model=stem,ple", "sweep.jobs=4", f"hydra.sweep.dir='{tmp_path}'", "resume=auto"),
    ]
    assert os.environ[SWEEP_ID] == "mine"
    with pytest.raises(StemlabError, match=r"optim\.lr=3"):
        resumed_sweep_words([f"sweep.resume={tmp_path}", "optim.lr=3"])
    with pytest.raises(StemlabError, match=r"sweep\.json"):
        resumed_sweep_words([f"sweep.resume={tmp_path}/other"])


def test_a_second_grid_of_a_directory_is_kept_and_named(tmp_path, monkeypatch):
    monkeypatch.setenv(SWEEP_ID, "")
    first = {"arguments": [], "overrides": ["hydra.mode=MULTIRUN", "model=stem,ple", "sweep.jobs=2"]}
    repeated = {"arguments": [], "overrides": ["model=stem,ple", "sweep.jobs=4", "resume=auto", "logger=none"]}
    second = {"arguments": ["--config-dir", "c"], "overrides": ["model=mmoe,ple", "seed=1"]}
    for command, count in ((first, 1), (repeated, 1), (second, 2), (first, 2), (second, 2)):
        content = with_command(tmp_path, command, "mine")
        if content is not None:
            (tmp_path / "sweep.json").write_text(json.dumps(content))
        assert read_commands(tmp_path) == ([first, second][:count], "mine")
    with pytest.raises(StemlabError, match="2 grids") as error:
        resumed_sweep_words([f"sweep.resume={tmp_path}"])
    for part in ("model=stem,ple", "--config-dir c -m model=mmoe,ple", "STEMLAB_SWEEP_ID=mine", "resume=auto"):
        assert part in str(error.value)


def test_missing_plugins_of_launchers_are_named_with_their_extra(monkeypatch):
    with pytest.raises(StemlabError, match=r"stemlab\[slurm\]"):
        check_command_line(CommandLine("train", ("seed=1,2", "launcher=slurm"), multirun=True))

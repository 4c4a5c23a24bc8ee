"""Messages for command lines that Hydra cannot compose; where a key was set."""

import shlex

import pytest
from hydra.core.global_hydra import GlobalHydra

from stemlab.config.compose import CommandLine, KeyOrigins, compose, compose_with_hydra, hydra_context, parse_overrides
from stemlab.config.composition_messages import options
from stemlab.config.removed_settings import check_removed_settings
from stemlab.config.sweep import check_command_line
from stemlab.errors import StemlabError


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["model=stm"], "model=stm on the command line: there is no conf/model/stm.yaml. Did you mean 'stem'?"),
        (["trainer=ddpcpu"], "Did you mean 'ddp_cpu'?"),
        (["model=_multitask"], "conf/model/_multitask.yaml is a base"),
        (["optim.lrr=1"], "optim.lrr (set on the command line) is not a setting. Did you mean 'lr'?"),
        (["sede=1"], "sede (set on the command line) is not a setting. Did you mean 'seed'?"),
        (["modle=stem"], "modle (set on the command line) is not a setting. Did you mean 'model'?"),
        (["+sede=1"], "sede (set on the command line) is not a setting. Did you mean 'seed'?"),
        (["model.nett.gate=cgc"], "model.nett (set on the command line) is not a setting. Did you mean 'net'?"),
        (
            ["optim.lr.x=1"],
            "optim.lr.x (set on the command line) is not a setting: optim.lr has no settings",
        ),
        (["optim.betas.x=1"], "optim.betas.x=1 on the command line"),
        (["~optim.lrr"], "optim.lrr (set on the command line) is not a setting. Did you mean 'lr'?"),
        (["hydra.run.dirr=x"], "hydra.run.dirr (set on the command line) is not a setting. Did you mean 'dir'?"),
        (["seed"], "'seed' on the command line"),
        (["seed=[1"], "seed on the command line has wrong syntax: '[1'"),
        (["tags=[ä]"], "quote texts"),
        (["seed=???"], "seed has no value (??? on the command line): write seed=... on the command line."),
        (["seed=${nothing}"], "seed (set on the command line): Interpolation key 'nothing' not found."),
        (["seed=1,2"], "seed=[1,2] for a list."),
        (["model=stem,mmoe"], "several values: add -m"),
        (["~optim.lr"], "~optim.lr: a setting cannot be removed"),
        (["~model.net.gate"], "Give it a value instead: model.net.gate=..."),
        (["~optim"], "optim is missing"),
        (["~model"], "'model.name' not found."),
    ],
)
def test_message(message, words, expected):
    text = message(*words)
    assert text is not None
    assert expected in text
    assert "\n" not in text


@pytest.mark.parametrize("value", ["we ird'x", "a{b\\'", "~/x.ckpt", "a'$HOME`b\\"])
def test_the_quoted_setting_is_the_typed_value_for_shell_and_hydra(value, message):
    found = message(f"paths.runs_dir={value}")
    (word,) = shlex.split(found.partition("quote it: ")[2].removesuffix("."))
    assert parse_overrides([word])[0].value() == value


def test_hint_for_the_last_part_of_an_experiment_name(tmp_path, message):
    (tmp_path / "experiment" / "tiktok").mkdir(parents=True)
    (tmp_path / "experiment" / "tiktok" / "odd_cell.yaml").write_text("# @package _global_\nseed: 5\n")
    line = CommandLine("train", ("experiment=odd_cell",), extra=tmp_path)
    with pytest.raises(StemlabError, match="Did you mean 'tiktok/odd_cell'"):
        check_command_line(line)
    assert "tiktok/odd_cell" in options(line, "experiment")


def test_base_files_are_not_options():
    line = CommandLine("train", ("model=glob(*)",))
    assert not [name for name in options(line, "model") if name.startswith("_")]
    with hydra_context(line):
        loader = GlobalHydra.instance().config_loader()
        assert sorted(loader.get_group_options("model")) == options(line, "model")
        assert sorted(parse_overrides(line.overrides)[0].sweep_string_iterator()) == options(line, "model")


def test_a_misspelt_base_file_is_not_suggested(message):
    assert "_multitask" not in message("model=_multitas").partition("yaml")[2]


def test_invalid_yaml_is_reported_with_file_line_and_column(tmp_path):
    (tmp_path / "dataset").mkdir()
    (tmp_path / "dataset" / "mine.yaml").write_text("name: mine\ntasks: [a\nfields: [b]\n")
    with pytest.raises(StemlabError, match=r"mine.yaml, line 3, column \d+: not valid YAML"):
        check_command_line(CommandLine("train", ("dataset=mine",), extra=tmp_path))


def test_message_names_the_file_that_set_a_wrong_value(tmp_path):
    for group, text in {
        "optim": "name: adam\nlr: -1\nbetas: [0.9, 0.999]\neps: 1.0e-8\nclip_norm: 10\nplateau: {enabled: false}\n",
        "experiment": "# @package _global_\ntrainer: {max_epochs: 0}\n",
    }.items():
        (tmp_path / group).mkdir()
        (tmp_path / group / "wrong.yaml").write_text(text)
    with pytest.raises(StemlabError, match=rf"^optim.lr=-1 \(set in {tmp_path}/optim/wrong.yaml\) must be"):
        check_command_line(CommandLine("train", ("optim=wrong",), extra=tmp_path))
    with pytest.raises(StemlabError, match=rf"^trainer.max_epochs=0 \(set in {tmp_path}/experiment/wrong.yaml\)"):
        check_command_line(CommandLine("train", ("experiment=wrong",), extra=tmp_path))


def test_origins():
    overrides = ["model=ple", "trainer.max_epochs=3", "paths={data_dir: d}"]
    with hydra_context(CommandLine("train")):
        compose_with_hydra("train", overrides)
        origin = KeyOrigins("train", overrides)
        assert origin("trainer.max_epochs") == "set on the command line"
        assert origin("trainer.accelerator") == "set in conf/trainer/cpu.yaml"
        assert origin("trainer.devices") == "set in conf/trainer/_base.yaml"
        assert origin("model.net.embedding_dim") == "set in conf/model/ple.yaml"
        assert origin("model.net.expert_hidden_units.1") == "set in conf/model/ple.yaml"
        assert origin("seed") == "set in conf/train.yaml"
        assert origin("paths.data_dir") == "set on the command line"
        assert origin("nowhere.at.all") == "not set"


def test_hydra_state_is_restored():
    from hydra.core.hydra_config import HydraConfig

    before = HydraConfig.instance().cfg
    compose("evaluate", ["ckpt=a.ckpt"])
    assert not GlobalHydra.instance().is_initialized()
    assert HydraConfig.instance().cfg is before


@pytest.mark.parametrize(
    ("command", "words", "expected"),
    [
        ("evaluate", [], "ckpt has no value (??? in conf/evaluate.yaml): write ckpt=... on the command line."),
        ("predict", ["ckpt=a"], "output has no value (??? in conf/predict.yaml): "),
        (
            "evaluate",
            ["ckpt=a", "split=tst"],
            "split='tst' (set on the command line) must be one of train, valid, test.",
        ),
    ],
)
def test_other_commands(command, words, expected):
    with pytest.raises(StemlabError) as caught:
        check_command_line(CommandLine(command, tuple(words)))
    assert expected in str(caught.value)


def test_the_file_of_a_section_that_lacks_a_key_is_named(tmp_path):
    (tmp_path / "dataset").mkdir()
    (tmp_path / "dataset" / "mine.yaml").write_text("name: mine\n_target_: tests.config.toydata.ToyDataModule\n")
    with pytest.raises(StemlabError, match=rf"{tmp_path}/dataset/mine.yaml.*dataset.tasks, .*no value"):
        check_command_line(CommandLine("train", ("dataset=mine",), extra=tmp_path))


def test_entries_that_the_user_named_can_be_removed():
    config = {"callbacks": {"own": {}}, "optim": {"lr": 0.1}}
    check_removed_settings(config, ["~callbacks.own.limit", "~logger", "~optim.lr"])  # optim.lr was added again

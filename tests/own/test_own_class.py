"""Classes of the user in a config: what is missing is named at once; unset settings have defaults."""

import os
import sys
from pathlib import Path

import pytest

from stemlab.config.compose import CommandLine, compose
from stemlab.config.instantiate import import_target
from stemlab.config.own_callbacks import build_own_callbacks
from stemlab.config.own_words import open_nodes, search_current_folder
from stemlab.config.sweep import check_command_line
from stemlab.errors import StemlabError
from stemlab.runs.trust import check_recorded_config

HERE = "tests.own.my_classes"
NET = ("model=own", f"model.net._target_={HERE}.Towers")


def net(name, option="own"):
    return (f"model={option}", f"model.net._target_={HERE}.{name}")


def data(name, option="own"):
    return (f"dataset={option}", f"dataset._target_={HERE}.{name}")


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (("model=own",), ["model.net._target_", "conf/model/own.yaml"]),
        (("dataset=own",), ["dataset._target_", "conf/dataset/own.yaml"]),
        (net("Nope"), ["has no 'Nope'"]),
        (("model=own", "model.net._target_=nowhere.Net"), ["no module 'nowhere'"]),
        (net("Bare"), ["reads = 'impressions'", "forward, embedding_tables", "(self, fields, tasks, *", "width"]),
        (net("WithoutScore"), ["score", "model.net.width, model.net.depth", "TabularNet", "docs/own/README.md"]),
        (net("NoNetwork"), ["torch.nn.Module", "docs/own/README.md"]),
        ((*net("WithoutRepresent", "own_sequential"), "dataset=ml1m"), ["lacks represent", "SequenceNet"]),
        ((*net("Towers", "own_sequential"), "dataset=ml1m"), ["reads impressions", "model=own"]),
        (net("WithoutRepresent"), ["reads sequences", "model=own_sequential"]),
        ((*NET, "model.net.unit=[3]"), ["model.net.unit", "'units'"]),
        ((*NET, "model.net.width=x"), ["model.net.width", "integer"]),
        (data("Bare"), ["not a datamodule", "TableDataModule", "docs/own/README.md"]),
        (data("WithoutBuild"), ["lacks build, encode", "dataset.name"]),
        (data("Rows"), ["dataset.path", "dataset.fields", "dataset.split", "no value"]),
        (data("Rows", "table"), ["dataset.tasks"]),
        ((f"callbacks.own.x._target_={HERE}.Bare",), ["callbacks.own.x", "Callback", "docs/own/callback.md"]),
        ((f"callbacks.own.x._target_={HERE}.Counter", "callbacks.own.x.begin=1"), ["callbacks.own.x.begin", "start"]),
        (("callbacks.own.x.start=1",), ["callbacks.own.x._target_"]),
        ((*data("Rows", "table"), "dataset.tasks=[a]", "dataset.fields=[b]", "dataset.foo=1"), ["dataset.foo"]),
    ],
)
def test_refusal_names_everything_that_is_missing(words, expected):
    if words == data("WithoutBuild"):
        expected = expected[:1]
    with pytest.raises(StemlabError) as error:
        check_command_line(CommandLine("train", tuple(open_nodes(words))))
    assert not [text for text in expected if text not in str(error.value)], str(error.value)


def test_unset_settings_have_the_defaults_of_the_signature_and_the_name_is_that_of_the_class():
    config = compose("train", open_nodes([*NET, "model.net.units=16"]))
    assert config["model"]["net"] == {"_target_": f"{HERE}.Towers", "width": 4, "units": [16]}
    assert config["model"]["name"] == "Towers"
    assert config["paths"]["output_dir"].split(os.sep)[-2] == "Towers"


def test_sweep_over_a_setting_of_an_own_class():
    words = open_nodes([*NET, "model.net.units=[8],[16]", "seed=1,2"])
    assert check_command_line(CommandLine("train", tuple(words), multirun=True)) is True


def test_only_nodes_whose_class_is_named_are_opened():
    assert open_nodes(["model.net.width=3", "dataset.path=x"]) == ["model.net.width=3", "dataset.path=x"]
    assert open_nodes(["only.dataset=a", "only={seed: 1}"]) == ["++only.dataset=a", "++only={seed: 1}"]
    opened = open_nodes([*NET, "model.net.width=3", "dataset.path=x", "++model.net.units=[1]"])
    assert opened[2:] == ["++model.net.width=3", "dataset.path=x", "++model.net.units=[1]"]


def test_a_file_of_the_current_folder_is_importable_without_python_m(tmp_path, monkeypatch):
    (tmp_path / "file_of_a_user.py").write_text("class Net:\n    pass\n")
    monkeypatch.setattr(sys, "path", [path for path in sys.path if path not in ("", os.getcwd())])
    monkeypatch.chdir(tmp_path)
    assert import_target({"_target_": "file_of_a_user.Net"}).__name__ == "Net"
    assert sys.path[-1] == str(tmp_path)
    assert not search_current_folder()
    sys.modules.pop("file_of_a_user")


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (("analysis=own",), ["analysis._target_", "conf/analysis/own.yaml"]),
        (("analysis=own", f"analysis._target_={HERE}.Bare"), ["stemlab.analysis.base.Analysis", "analysis.md"]),
        (("analysis=own", f"analysis._target_={HERE}.WithoutFind"), ["lacks find"]),
    ],
)
def test_refused_analyses(words, expected):
    with pytest.raises(StemlabError) as error:
        check_command_line(CommandLine("analyze", (*open_nodes(words), "run=nowhere")))
    assert not [text for text in expected if text not in str(error.value)], str(error.value)


def test_callbacks_of_the_user_are_built_in_order_with_their_defaults():
    words = [f"callbacks.own.{name}._target_={HERE}.Counter" for name in ("b", "a")]
    config = compose("train", open_nodes([*words, "callbacks.own.a.start=2"]))
    assert [callback.count for callback in build_own_callbacks(config)] == [0, 2]
    saved = {**config, "seed": 1}
    with pytest.raises(StemlabError, match=r"callbacks.own.b.*allow=\[tests\]"):
        check_recorded_config(saved, [], Path("x.ckpt"))
    check_recorded_config(saved, ["tests.own"], Path("x.ckpt"))

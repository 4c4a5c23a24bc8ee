"""A single value of a list setting is a list of one, in every command, group, class and file."""

import pytest

from stemlab.config.compose import CommandLine, compose
from stemlab.config.single_values import single_values_as_lists
from stemlab.config.sweep import check_command_line
from stemlab.errors import StemlabError


def find(config, key):
    for part in key.split("."):
        config = config[part]
    return config


@pytest.mark.parametrize(
    ("command", "words", "key", "value"),
    [
        ("report", ["runs=runs/a"], "runs", ["runs/a"]),
        ("report", ["runs=runs/tiktok/*"], "runs", ["runs/tiktok/*"]),
        ("report", ["by=dataset", "metrics=ndcg@5", "order=stem"], "by", ["dataset"]),
        ("analyze", ["runs=runs/a", "allow=mypkg"], "runs", ["runs/a"]),
        ("analyze", ["analysis.fields=user"], "analysis.fields", ["user"]),
        (
            "analyze",
            ["analysis=report", "analysis.parts.collapse.fields=user"],
            "analysis.parts.collapse.fields",
            ["user"],
        ),
        ("evaluate", ["ckpt=a.ckpt", "allow=mypkg"], "allow", ["mypkg"]),
        ("predict", ["ckpt=a.ckpt", "output=a.csv", "allow=mypkg"], "allow", ["mypkg"]),
        ("prepare", ["dataset.fields=item_id", "dataset.group=null"], "dataset.fields", ["item_id"]),
        ("train", ["tags=first"], "tags", ["first"]),
        ("train", ["dataset.tasks=like"], "dataset.tasks", ["like"]),
        ("train", ["model.net.expert_hidden_units=32"], "model.net.expert_hidden_units", [32]),
        ("train", ["model=sasrec", "dataset=ml1m", "dataset.evaluation.topk=5"], "dataset.evaluation.topk", [5]),
        ("train", ["trainer.devices=1"], "trainer.devices", 1),
        ("analyze", ["run=a", "fail_if='a.b < 3'"], "fail_if", "a.b < 3"),
    ],
)
def test_a_single_value_is_a_list_of_one(command, words, key, value):
    assert find(compose(command, words), key) == value
    if isinstance(value, list):
        listed = [f"{key}=[{word.partition('=')[2]}]" if word.startswith(f"{key}=") else word for word in words]
        assert find(compose(command, listed), key) == value


def test_a_single_value_in_the_file_of_a_table_is_a_list_of_one(tmp_path):
    (tmp_path / "rows.csv").write_text("a,b,y\n1,2,0\n1,2,1\n")
    (tmp_path / "rows.yaml").write_text("tasks: y\nfields: [a, b]\nmissing: '-'\n")
    words = [f"dataset.path={tmp_path}/rows.csv", f"dataset.config={tmp_path}/rows.yaml"]
    dataset = compose("prepare", ["dataset=table", *words])["dataset"]
    assert (dataset["tasks"], dataset["missing"]) == (["y"], ["-"])


def test_single_values_of_a_sweep_are_checked_as_lists():
    words = ("model.net.expert_hidden_units=16,32", "seed=1,2")
    assert check_command_line(CommandLine("train", words, multirun=True)) is True
    with pytest.raises(StemlabError, match=r"expert_hidden_units\.0='wide' .* integer"):
        check_command_line(CommandLine("train", ("model.net.expert_hidden_units=16,wide",), multirun=True))


@pytest.mark.parametrize("word", ["tags=", "tags=null"])
def test_what_is_no_value_is_refused(word):
    with pytest.raises(StemlabError, match=r"tags=.* must be a list"):
        compose("train", [word])


def test_an_unknown_class_is_left_to_the_validation():
    config = {"tags": ["a"], "dataset": {"_target_": "no.such.Class", "tasks": "like"}, "model": {"net": {}}}
    assert single_values_as_lists(config) == config

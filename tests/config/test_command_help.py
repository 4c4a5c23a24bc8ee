"""``--help`` explains every setting of every command and option."""

import re

import pytest
import yaml

from stemlab.config.command_help import _of_model, command_help, type_text
from stemlab.config.compose import CommandLine
from stemlab.config.instantiate import node_model
from stemlab.config.schema import Seed
from stemlab.config.setting_docs import described_settings, read_file_comments, yaml_comments
from stemlab.errors import StemlabError
from stemlab.types import PositiveInt

COMMANDS = ["train", "evaluate", "predict", "prepare", "report", "analyze", "profile"]


def entries(text):
    """Return key -> (value, type, comment) of a help text."""
    found, key = {}, None
    for line in text.partition("\nSettings of the command")[2].splitlines():
        head = re.match(r"^  ([\w.]+)=(.*?)(?:  \((.*)\))?$", line)
        if head:
            key = head[1]
            found[key] = (head[2], head[3] or "", "")
        elif key and line.startswith("      "):
            value, kind, comment = found[key]
            found[key] = (value, kind, f"{comment} {line.strip()}".strip())
        else:
            key = None
    return found


def help_of(command, *words, **changes):
    return command_help(CommandLine(command, words, **changes))


def test_a_key_has_its_default_its_type_and_its_comment():
    found = entries(help_of("train", "model=stem", "optim.lr=0.5"))
    assert found["model.net.embedding_dim"] == ("16", "integer greater than 0", "width in each table")
    assert found["optim.lr"] == ("0.5", "number greater than 0 and at most 10", "learning rate.")
    assert found["model.net.gate"][1] == "aftb | all_backward | cgc | stop_shared_too"
    assert found["model.net.expert_hidden_units"][:2] == ("[512,512,512]", "list of integer greater than 0")
    assert found["trainer.max_epochs"][0] == "20"
    assert found["ckpt_path"][:2] == ("null", "text | null")


def test_the_options_of_a_group_are_listed_and_the_one_in_use_is_explained():
    text = help_of("train", "model=timirec", "dataset=ml1m")
    assert "[timirec]" in text
    assert not re.search(r"(?<!own)_sequential", text)
    assert re.search(r"\nmodel=timirec: Several interests per user", text)
    found = entries(text)
    assert found["model.net.num_interests"][0] == "2"
    assert "model.net.gate" not in found
    assert found["callbacks.early_stop.window"][0] == "10"
    assert entries(help_of("evaluate"))["ckpt"][0] == "???"


@pytest.mark.parametrize("command", COMMANDS)
def test_every_setting_of_a_command_is_explained(command):
    found = entries(help_of(command))
    assert [key for key, (_, kind, comment) in found.items() if not comment or not kind] == []
    assert len(found) > 10


def test_every_setting_of_every_class_in_conf_is_explained(root):
    """Composing all options takes a minute, so the files are read one by one."""
    missing = []
    for path in [
        path for group in ("model", "dataset", "analysis") for path in (root / "conf" / group).glob("[!_]*.yaml")
    ]:
        if path.stem.startswith("own"):  # needs a class of the user
            continue
        values = yaml.safe_load(path.read_text())
        node, prefix = (values["net"], "net") if path.parent.name == "model" else (values, "")
        comments = read_file_comments(path).keys
        settings = _of_model(node_model(node), node, prefix, node["_target_"])
        missing += [(path.name, key) for key, (kind, text) in settings if not kind or not (text or key in comments)]
    assert missing == []


def test_a_wrong_option_is_refused_as_in_a_run():
    with pytest.raises(StemlabError, match="mmoe"):
        help_of("train", "model=mmo")
    with pytest.raises(StemlabError, match="not a setting"):
        help_of("report", "model=stem")


def test_comments_of_a_file():
    text = "# Title\n# of the file.\na: 1 # beside\n# above\n# two lines\nb: '#' \n"
    text += "c: # block\n  d: [1, 2] # list\ne:\n  - 1\n"
    found = yaml_comments(text)
    assert found.title == "Title of the file."
    assert found.keys == {"a": "beside", "b": "above two lines", "c": "block", "c.d": "list"}
    assert yaml_comments("# only a title\n").keys == {}


def test_entries_of_a_docstring():
    text = "Head.\n\nArgs:\n    a: first\n        and more.\n    b (int): ``x`` or None.\n\n    Not an entry.\n"
    text += "\nReturns:\n    c: no\n"
    assert described_settings(text) == {"a": "first and more.", "b": "x or null."}
    assert described_settings(None) == {}


def test_types_in_words():
    assert type_text(PositiveInt) == "integer greater than 0"
    assert type_text(Seed) == "integer at least 0"
    assert type_text(list[str] | None) == "list of text | null"

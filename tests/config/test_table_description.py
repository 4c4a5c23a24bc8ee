"""dataset.config overrides the defaults and is overridden by the command line; errors name the file."""

from pathlib import Path

import pytest
import yaml
from omegaconf import OmegaConf

from stemlab.config.compose import CommandLine, KeyOrigins, compose, compose_with_hydra, hydra_context
from stemlab.config.sweep import check_command_line
from stemlab.config.table_description import SPLIT_KEYS, TABLE_KEYS, read_description
from stemlab.errors import StemlabError

CONF = Path(__file__).resolve().parents[2] / "conf" / "dataset"
TEXT = "name: mine\ntasks: [a, b]\nfields: [u]\nmin_count: 3\nsplit:\n  rule: time\ntime: t\nshared: {v: u}\n"


@pytest.fixture
def config(tmp_path):
    path = tmp_path / "my.stemlab.yaml"
    path.write_text(TEXT)
    return path


def compose_described(path, *words):
    return compose("train", ["model=mmoe", "dataset=table", "dataset.path=x.csv", f"dataset.config={path}", *words])


def test_command_line_overrides_description_overrides_default(config):
    config.write_text(TEXT.replace("shared: {v: u}\n", ""))
    found = compose_described(config, "dataset.min_count=7", "dataset.split.valid_size=0.2")["dataset"]
    assert (found["min_count"], found["tasks"], found["name"], found["scaling"]) == (7, ["a", "b"], "mine", "standard")
    assert (found["split"]["rule"], found["split"]["valid_size"], found["split"]["test_size"]) == ("time", 0.2, 0.1)
    assert (found["missing"], found["numericals"], found["shared"], found["columns"]) == ([""], [], {}, None)


def test_origin_names_the_description(config):
    words = ["dataset=table", f"dataset.config={config}", "dataset.group=u"]
    with hydra_context(CommandLine("train")):
        origin = KeyOrigins("train", words)
        assert origin("dataset.tasks") == origin("dataset.split.rule") == f"set in {config}"
        assert origin("dataset.split.seed") == origin("dataset.scaling") == "set in conf/dataset/table.yaml"
        assert origin("dataset.group") == "set on the command line"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("taks: [a]", "my.stemlab.yaml: taks is not a setting. Did you mean 'tasks'"),
        ("split: {rul: time}", r"my.stemlab.yaml: split.rul is not a setting. Did you mean 'rule'"),
        ("split: time", "split must be a mapping, such as rule: time"),
        ("path: rows.csv", r"my.stemlab.yaml: path is not a setting"),
        ("- a", "must contain keys"),
        ("tasks: [a", r"my.stemlab.yaml, line \d+, column \d+: not valid YAML"),
        ("tasks: {a: 1}\nfields: [u]", r"dataset.tasks=\{'a': 1\} \(set in .*my.stemlab.yaml\) must be a list"),
        ("tasks: [a]\nfields: [u]\nmin_count: 0", r"dataset.min_count=0 \(set in .*my.stemlab.yaml\) must be greater"),
        ("tasks: [a]\nfields: []", r"dataset.fields=\[\] \(set in .*my.stemlab.yaml\) must be a list of at least 1"),
        ("tasks: []\nfields: [u]", r"dataset.tasks=\[\] \(set in .*my.stemlab.yaml\) must be a list of at least 1"),
        ("fields: [u]", "set dataset.tasks"),
        (
            "tasks: [a]\nfields: [u]\nsplit: {rule: time, carve: random}\ntime: t",
            r"dataset.split.carve=random \(set in .*my.stemlab.yaml\) is not read by dataset.split.rule=time",
        ),
        ("scaling: log", r"dataset.scaling='log' \(set in .*\) must be one of none, standard, minmax"),
    ],
)
def test_wrong_descriptions(config, text, expected):
    config.write_text(text)
    words = ("model=mmoe", "dataset=table", "dataset.path=x.csv", f"dataset.config={config}")
    with pytest.raises(StemlabError, match=expected):
        check_command_line(CommandLine("train", words))


def test_a_description_is_named_by_its_path():
    with pytest.raises(StemlabError, match=r"dataset\.config=5 .*path"):
        check_command_line(CommandLine("train", ("model=mmoe", "dataset=table", "dataset.config=5")))


def test_a_rule_on_the_command_line_replaces_the_split_of_the_description(config):
    config.write_text(TEXT.replace("shared: {v: u}\n", "").replace("rule: time", "rule: random\n  seed: 5"))
    assert compose_described(config, "dataset.split.rule=time")["dataset"]["split"]["rule"] == "time"


def test_no_such_file(tmp_path):
    words = ("dataset=table", f"dataset.config={tmp_path / 'no.yaml'}")
    with pytest.raises(StemlabError, match=r"no such file; stemlab\.prepare"):
        check_command_line(CommandLine("prepare", words))


def test_sweep_over_descriptions_checks_each(config, tmp_path):
    other = tmp_path / "other.yaml"
    other.write_text("taks: [a]")
    config.write_text("tasks: [a, b]\nfields: [u]")
    words = ("model=mmoe", "dataset=table", "dataset.path=x.csv", f"dataset.config={config},{other}")
    with pytest.raises(StemlabError, match="taks is not a setting"):
        check_command_line(CommandLine("train", words, multirun=True))


@pytest.mark.parametrize("option", ["table", "criteo"])
def test_description_keys_are_those_with_a_resolver(option):
    node = yaml.safe_load((CONF / f"{option}.yaml").read_text())
    split = node.pop("split")
    resolved = {key: value for key, value in node.items() if str(value).startswith("${table_config:")}
    assert {*resolved, "split"} == set(TABLE_KEYS)
    assert set(split) == set(SPLIT_KEYS)
    for key, value in [*resolved.items(), *((f"split.{name}", value) for name, value in split.items())]:
        assert value.startswith(f"${{table_config:{key},"), key


def test_a_described_table_resolves_as_resolve_of_hydra_does(config):
    """``--cfg job --resolve``: lists and mappings of the file are nodes."""
    words = ["model=mmoe", "dataset=table", "dataset.path=x.csv", f"dataset.config={config}"]
    with hydra_context(CommandLine("train")):
        composed = compose_with_hydra("train", words)
    dataset = OmegaConf.masked_copy(composed, "dataset").dataset
    dataset._set_parent(composed)
    OmegaConf.resolve(dataset)
    assert (dataset.tasks, dataset.missing, dataset.shared, dataset.labels) == (["a", "b"], [""], {"v": "u"}, {})


def test_empty_value_is_the_default(config):
    config.write_text("tasks: [a, b]\nfields: [u]\nmin_count:\ngroup: null\n")
    assert read_description(config)["min_count"] is None
    assert compose_described(config)["dataset"]["min_count"] == 10


@pytest.mark.parametrize(
    "text",
    [
        "name: ${oc.env:HOME}",
        "tasks: [click, '${paths.data_dir}']",
        "split: {rule: '${seed}'}",
        "shared: {'${a}': item}",
    ],
)
def test_interpolations_are_refused(tmp_path, text):
    path = tmp_path / "rows.stemlab.yaml"
    path.write_text(text + "\n")
    with pytest.raises(StemlabError, match=r"rows\.stemlab\.yaml: .*\$\{.*not resolved"):
        read_description(path)

"""Files of conf/ and the constructors they configure have the same settings; every option composes."""

import dataclasses
import inspect
from pathlib import Path

import pytest

from stemlab.config.compose import CommandLine, KeyOrigins, compose
from stemlab.config.instantiate import import_target, settings_model, source_model
from stemlab.config.schema import SECTIONS, section_model
from stemlab.config.sweep import check_command_line
from stemlab.config.trainer_schema import SavedTrainerConfig
from stemlab.optim import OptimConfig, RankingOptimConfig
from tests.conf_files import read_option, read_yaml

CONF = Path(__file__).resolve().parents[2] / "conf"
PARTS = ("sweep", "launcher")
"""Groups whose files set a part of their section, and Hydra's own settings."""
WHOLE_SECTIONS = [group for group in SECTIONS if group not in PARTS]


def files(group):
    """Return the options of a group; ``own.yaml`` needs a class of the user (tests/own)."""
    return sorted(path for path in (CONF / group).rglob("*.yaml") if not path.name.startswith(("_", "own")))


def name(path):
    return path.relative_to(CONF).as_posix()


def option(path):
    return path.relative_to(CONF / name(path).split("/")[0]).with_suffix("").as_posix()


def read(path):
    return read_option(path.parent.relative_to(CONF).as_posix(), path.stem)


def keyword_only(target):
    parameters = inspect.signature(target).parameters.values()
    return {parameter.name for parameter in parameters if parameter.kind is inspect.Parameter.KEYWORD_ONLY}


def built_nodes():
    for path in files("model"):
        yield pytest.param(read(path)["net"], id=name(path))
    for path in (*files("dataset"), *files("analysis")):
        node = read_yaml(path.parent.name, path.stem)
        # "collapse@parts.collapse" adds the settings of collapse.yaml under the key parts.collapse
        parts = {entry.split("@")[1].split(".")[0] for entry in node.pop("defaults", []) if "@" in entry}
        yield pytest.param({**dict.fromkeys(parts), **node}, id=name(path))


@pytest.mark.parametrize("node", list(built_nodes()))
def test_file_has_every_setting_of_its_class(node):
    target = import_target(node)
    assert set(node) - {"_target_"} == keyword_only(target)
    hints = inspect.get_annotations(target.__init__, eval_str=True)
    for key in set(hints) & set(node):
        if dataclasses.is_dataclass(annotation := hints[key]):
            assert set(node[key]) == {field.name for field in dataclasses.fields(annotation)}, key


@pytest.mark.parametrize("node", list(built_nodes()))
def test_settings_from_source_equal_those_of_the_class(node):
    real = settings_model(import_target(node)).model_json_schema()
    read = source_model(node["_target_"]).model_json_schema()
    assert read.get("required") == real.get("required")
    for schema in (real, read):
        for field in schema["properties"].values():
            field.pop("default", None)
    assert read == real


@pytest.mark.parametrize("path", [path for group in WHOLE_SECTIONS for path in files(group)], ids=name)
def test_file_has_every_setting_of_its_section(path):
    values = {key: value for key, value in read(path).items() if key != "defaults"}
    section = SavedTrainerConfig if option(path) == "saved" else section_model(name(path).split("/")[0], values)
    assert set(values) == set(section.model_fields)


@pytest.mark.parametrize("path", [path for group in PARTS for path in files(group)], ids=name)
def test_file_sets_only_settings_of_its_section(path):
    group = name(path).split("/")[0]
    assert set(read(path).get(group, {})) <= set(SECTIONS[group].model_fields)


@pytest.mark.parametrize(("option_name", "settings"), [("adam", OptimConfig), ("ranking", RankingOptimConfig)])
def test_file_has_every_setting_of_the_optimiser(option_name, settings):
    assert set(read(CONF / f"optim/{option_name}.yaml")) == {field.name for field in dataclasses.fields(settings)}


@pytest.mark.parametrize(
    "path", [path for group in ("model", "dataset", "logger", "callbacks", "optim") for path in files(group)], ids=name
)
def test_every_option_composes_and_has_the_name_of_its_file(path):
    group = name(path).split("/")[0]
    config = compose("train", [f"{group}={option(path)}", *partners(path)])
    assert option(path) in (config[group].get("name"), "ranking", "default")


def partners(path):
    """Return the other choices that an option needs, because the defaults are multi-task."""
    values = read(path)
    own = {
        "ranking": ["model=sasrec", "dataset=ml1m"],
        "table": ["dataset.tasks=[click,buy]", "dataset.fields=[user]"],  # the user's columns are not known yet
        "criteo": ["model=single_task"],  # its only task
    }
    if path.stem in own:
        return own[path.stem]
    if path.parent.name == "model" and values["family"] == "sequential":
        return ["dataset=ml1m"]
    return ["model=sasrec"] if path.parent.name == "dataset" and "tasks" not in values else []


@pytest.mark.parametrize("option_name", ["cpu", "gpu", "ddp", "ddp_cpu"])
def test_every_trainer_composes(option_name):
    assert compose("train", [f"trainer={option_name}"])["trainer"]["name"] == option_name


SWEEPS = [path for path in files("sweep") if path.parent.name == "sweep"]  # its folders: tests/sweep/test_presets.py


@pytest.mark.parametrize("path", [*SWEEPS, CONF / "sweep/table/tiktok_conflict.yaml"], ids=name)
def test_all_jobs_of_every_sweep_are_valid(path, monkeypatch):
    def look_up(self, key):
        raise AssertionError(f"looked for the file of the valid key {key}: too slow for each of many jobs")

    monkeypatch.setattr(KeyOrigins, "_file", look_up)
    space = ("sweep/space=stem",) if "sampler" in path.read_text() else ()
    assert check_command_line(CommandLine("train", (f"sweep={option(path)}", *space))) is True

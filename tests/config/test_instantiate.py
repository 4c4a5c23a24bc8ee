"""Objects are built from config nodes; wrong settings are refused with key, value and origin."""

import math
import sys

import pytest

from stemlab.config.instantiate import instantiate, validate_as
from stemlab.errors import StemlabError
from tests.config.toydata import Split, ToyDataModule

TARGET = "tests.config.toydata.ToyDataModule"
GOOD = {
    "_target_": TARGET,
    "name": "toy",
    "tasks": ["a"],
    "fields": ["uid"],
    "min_count": 3,
    "split": {"rule": "time", "test_size": 0.2, "valid_size": 0.1},
}


def refusal(**changes):
    with pytest.raises(StemlabError) as caught:
        instantiate({**GOOD, **changes}, key="dataset", origin=lambda key: "set here")
    return str(caught.value)


def test_builds_with_typed_settings():
    made = instantiate(GOOD)
    assert isinstance(made, ToyDataModule)
    assert made.split == Split("time", 0.2, 0.1)
    assert type(made.tasks) is list


def test_runtime_arguments_are_positional(monkeypatch):
    class Net:
        def __init__(self, fields, *, width: int):
            self.arguments = (fields, width)

    monkeypatch.setattr(sys.modules[__name__], "LocalNet", Net, raising=False)
    assert instantiate({"_target_": f"{__name__}.LocalNet", "width": 4}, {"uid": 3}).arguments == ({"uid": 3}, 4)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"min_count": 0}, "dataset.min_count=0 (set here) must be greater than 0."),
        ({"min_count": "3"}, "dataset.min_count='3' (set here) must be an integer."),
        ({"min_count": True}, "dataset.min_count=true (set here) must be an integer."),
        ({"min_count": 1.5}, "dataset.min_count=1.5 (set here) must be an integer."),
        ({"min_count": None}, "dataset.min_count=null (set here) must be an integer."),
        ({"tasks": "a"}, "dataset.tasks='a' (set here) must be a list."),
        ({"tasks": ["a", 3]}, "dataset.tasks.1=3 (set here) must be a string."),
        ({"split": 3}, "dataset.split=3 (set here) must be a mapping of settings."),
        ({"min_cuont": 3}, "dataset.min_cuont (set here) is not a setting. Did you mean 'min_count'?"),
        (
            {"split": {"rule": "tme", "test_size": 0.1, "valid_size": 0.1}},
            "dataset.split.rule='tme' (set here) must be one of random, time. Did you mean 'time'?",
        ),
        (
            {"split": {"rule": "time", "test_size": 1, "valid_size": 0.1}},
            "dataset.split.test_size=1 (set here) must be less than 1.",
        ),
        (
            {"split": {"rule": "time", "test_size": 0.1, "valid_sise": 0.1}},
            "dataset.split.valid_sise (set here) is not a setting. Did you mean 'valid_size'?",
        ),
        (
            {"split": {"rule": "time", "test_size": 0.1}},
            "dataset.split.valid_size is missing from dataset.split (set here): it is required.",
        ),
        ({"split": {"rule": "time", "test_size": math.nan, "valid_size": 0.1}}, None),
        (
            {"_target_": "tests.config.toydata.Toy"},
            "dataset._target_=tests.config.toydata.Toy (set here): tests.config.toydata has no 'Toy'.",
        ),
        (
            {"_target_": "tests.confg.Toy"},
            "dataset._target_=tests.confg.Toy (set here): there is no module 'tests.confg'.",
        ),
        (
            {"_target_": None},
            "dataset._target_=None (set here) must be the full name of a class (package.module.Class).",
        ),
    ],
)
def test_message(changes, expected):
    text = refusal(**changes)
    assert "\n" not in text
    assert text == expected or (expected is None and text.startswith("dataset.split.test_size=nan (set here) must be"))


def test_missing_setting_is_reported():
    node = {key: value for key, value in GOOD.items() if key != "min_count"}
    with pytest.raises(StemlabError, match=r"^dataset.min_count is missing from dataset \(set here\)"):
        instantiate(node, key="dataset", origin=lambda key: "set here")


def test_integers_are_accepted_as_floats():
    assert validate_as(Split, {"rule": "time", "test_size": 0.5, "valid_size": 0.25}).valid_size == 0.25


def test_import_error_inside_the_target_module_is_raised(tmp_path, monkeypatch):
    (tmp_path / "half_done.py").write_text("import no_such_package_anywhere\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(ModuleNotFoundError, match="no_such_package_anywhere"):
        instantiate({"_target_": "half_done.Thing"})

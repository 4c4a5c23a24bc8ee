"""Files of conf/ hold only what differs from the files below them."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

from stemlab.config.compose import CommandLine, compose_job, hydra_context
from tests.conf_files import option_names, read_yaml

CONF = Path(__file__).resolve().parents[2] / "conf"
EXPERIMENTS = sorted(CONF.glob("experiment/*/*.yaml"))


@cache
def default_config(choices: tuple[str, ...]) -> dict[str, Any]:
    """Return the resolved config of the chosen groups, without an experiment."""
    with hydra_context(CommandLine("train")):
        return compose_job("train", choices)


def leaves(node: dict[str, Any], *above: str) -> Iterator[tuple[tuple[str, ...], Any]]:
    for key, value in node.items():
        if isinstance(value, dict) and value:
            yield from leaves(value, *above, key)
        else:
            yield (*above, key), value


def repeated(own: dict[str, Any], default: dict[str, Any]) -> list[str]:
    """Return the keys that hold the same value on both sides."""
    known = dict(leaves(default))
    return [".".join(path) for path, value in leaves(own) if path in known and known[path] == value]


@pytest.mark.parametrize("path", EXPERIMENTS, ids=lambda path: path.relative_to(CONF / "experiment").as_posix())
def test_experiment(path: Path) -> None:
    own = yaml.safe_load(path.read_text())
    choices = [
        (key.removeprefix("override /"), option) for entry in own.pop("defaults") for key, option in entry.items()
    ]
    assert [group for group, _ in choices] == ["model", "dataset"]
    assert repeated(own, default_config(tuple(f"{group}={option}" for group, option in choices))) == []


@pytest.mark.parametrize(
    ("group", "name"), [(group, name) for group in ("model", "trainer") for name in option_names(group)]
)
def test_option_and_its_base(group: str, name: str) -> None:
    own = read_yaml(group, name)
    base, itself = own.pop("defaults")
    assert itself == "_self_"
    assert repeated(own, read_yaml(group, base)) == []


def test_a_repeated_default_is_found() -> None:
    default = {"optim": {"lr": 1e-3, "plateau": {"enabled": True}}, "tags": []}
    own = {"optim": {"lr": 1e-3, "plateau": {"enabled": False}}, "tags": []}
    assert repeated(own, default) == ["optim.lr", "tags"]

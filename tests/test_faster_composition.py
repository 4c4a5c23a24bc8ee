"""The faster compositions of the tests give Hydra's configs."""

from __future__ import annotations

import pytest
from hydra.core.global_hydra import GlobalHydra
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf, open_dict

from stemlab.config.compose import CommandLine, compose_with_hydra, hydra_context
from tests.conftest import ROOT
from tests.replaced import REPLACED

TOY = ROOT / "tests" / "config" / "toy"
LINES = {
    "settings": ["model=stem", "dataset=tiktok", "optim.lr=0.1", "+model.net.more=[1,{a: 2}]", "~trainer.devices"],
    "other settings of the same files": ["model=stem", "dataset=tiktok", "optim.lr=0.2", "seed=3"],
    "other files": ["dataset=ml1m", "model=timirec", "trainer=ddp_cpu"],
    "experiment": ["experiment=tiktok_conflict/stem", "tags=['a b','c']", "seed=1", "seed=2"],
    "sweep": ["model=stem,mmoe", "optim.lr=0.1,0.2", "sweep=stem_grid"],
    "another folder": ["dataset=toy"],
}


def composed(words: list[str]) -> DictConfig:
    line = CommandLine("train", extra=TOY if "dataset=toy" in words else None)
    with hydra_context(line):
        if "sweep=stem_grid" in words:
            return GlobalHydra.instance().config_loader().load_configuration("train", words, RunMode.MULTIRUN)
        return compose_with_hydra("train", [*words, "hydra.run.dir=x"])


def contents(node: object) -> object:
    """Return values, types and flags of a node and of those below it."""
    data = node._metadata  # type: ignore[attr-defined]
    state = (type(node), data.flags, data.key, data.ref_type, data.object_type, data.optional)
    inner = node._value()  # type: ignore[attr-defined]
    if isinstance(inner, dict):
        return (*state, {key: contents(value) for key, value in inner.items()})
    return (*state, [contents(value) for value in inner] if isinstance(inner, list) else inner)


def parents_are_right(node: object) -> bool:
    inner = node._value()  # type: ignore[attr-defined]
    below = inner.values() if isinstance(inner, dict) else inner if isinstance(inner, list) else ()
    return all(child._get_parent() is node and parents_are_right(child) for child in below)


@pytest.mark.parametrize("name", LINES)
def test_the_config_is_that_of_hydra(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    kept = [composed(LINES[name]) for _ in range(2)]
    assert contents(kept[0]) == contents(kept[1])
    assert parents_are_right(kept[1])
    with open_dict(kept[0]):  # a change of one config changes no other
        kept[0].optim.lr = 5
        kept[0].model.clear()
        kept[0].callbacks._set_flag("readonly", True)
    again = contents(composed(LINES[name]))
    for owner, attribute, original in REPLACED:
        monkeypatch.setattr(owner, attribute, original)
    config = composed(LINES[name])
    assert contents(config) == contents(kept[1]) == again
    assert OmegaConf.to_yaml(config) == OmegaConf.to_yaml(kept[1])


def test_all_steps_are_replaced() -> None:
    names = {name for _, name, _ in REPLACED}
    assert names >= {
        *("parse", "load_config", "__deepcopy__", "parse_rule", "create_defaults_list", "_create_interpolation_map"),
        *("_compose_config_from_defaults_list", "_re_parent"),
    }

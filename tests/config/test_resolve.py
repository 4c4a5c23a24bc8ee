"""Resolved configs are plain and have absolute paths; the hash ignores settings that do not change results."""

import json
import os

import pytest
from omegaconf import OmegaConf

from stemlab.config.compose import compose
from stemlab.config.resolve import config_hash, flatten, resolve


def plain_types(value):
    if isinstance(value, dict):
        return all(type(key) is str and plain_types(item) for key, item in value.items())
    if isinstance(value, list):
        return all(plain_types(item) for item in value)
    return value is None or type(value) in (str, int, float, bool)


def test_composed_config_is_plain_and_absolute():
    config = compose("train", ["model=stem", "paths.data_dir=here"])
    assert type(config) is dict
    assert plain_types(config)
    assert json.loads(json.dumps(config)) == config
    assert config["paths"]["data_dir"] == os.path.abspath("here")
    assert config["dataset"]["raw_dir"] == os.path.join(os.path.abspath("here"), "raw", "tiktok")
    assert "hydra" not in config


def test_run_directory_of_the_default_run():
    config = compose("train", ["model=ple", "paths.runs_dir=r"])
    assert config["paths"]["output_dir"].startswith(os.path.join(os.path.abspath("r"), "tiktok", "ple", "20"))


def test_resolve_does_not_change_its_argument():
    config = OmegaConf.create({"paths": {"data_dir": "d"}, "raw": "${paths.data_dir}/raw"})
    assert resolve(config)["raw"] == os.path.abspath("d") + "/raw"
    assert config.paths.data_dir == "d"
    plain = {"a": [1]}
    resolve(plain)["a"].append(2)
    assert plain == {"a": [1]}


def test_missing_values_are_refused():
    with pytest.raises(Exception, match="ckpt"):
        resolve(OmegaConf.create({"ckpt": "???"}))


def test_hash_ignores_settings_that_do_not_change_results():
    base = compose("train", [])
    same = compose("train", ["paths.runs_dir=elsewhere", "paths.data_dir=there", "tags=[x]", "logger=csv"])
    assert config_hash(base) == config_hash(same)
    gpu = [config_hash(compose("train", ["trainer=gpu", f"dataset.residence={place}"])) for place in ("auto", "host")]
    assert gpu[0] == gpu[1]
    assert len(config_hash(base)) == 16
    others = [["seed=1"], ["model.net.embedding_dim=8"], ["dataset.min_count=3"], ["trainer.max_epochs=2"]]
    hashes = {config_hash(compose("train", words)) for words in others}
    assert len(hashes | {config_hash(base)}) == len(others) + 1


def test_flatten():
    assert flatten({"a": 1, "b": {"c": [2], "d": {"e": None}}}) == {"a": 1, "b.c": [2], "b.d.e": None}

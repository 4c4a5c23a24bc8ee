"""Files of conf/sweep: tables name existing experiments and studies, spaces name settings of their models."""

import pytest
import yaml
from hydra.core.override_parser.overrides_parser import OverridesParser

from stemlab.config.cli import _parse
from stemlab.sweep.space import SearchSpace
from tests.conf_files import CONF, model_config, model_names, option_names, read_yaml

MODELS = {
    "stem": ["stem"],
    "mmoe": ["mmoe", "omoe", "mmoe_me"],
    "ple": ["ple", "ple_me"],
    "multitask": ["shared_bottom", "mmoe", "ple", "esmm", "aitm", "single_task"],
    "multiscenario": ["star", "pepnet", "hinet", "m2m", "adasparse", "sar_net"],
    "mmfi": ["mmfi"],
    "ctr": ["dcnv2"],
    "sequential": [name for name in model_names() if model_config(name).get("family") == "sequential"],
    "multi_interest": ["comirec", "mind"],
    "timirec": ["timirec"],
}


@pytest.mark.parametrize("name", option_names("sweep/table"))
def test_a_table_names_existing_experiments(name):
    sweeper = read_yaml("sweep/table", name)["hydra"]["sweeper"]
    experiments = [word.strip() for word in sweeper["params"]["experiment"].split(",")]
    assert [one for one in experiments if not (CONF / "experiment" / f"{one}.yaml").is_file()] == []
    head = (CONF / "sweep/table" / f"{name}.yaml").read_text().split("hydra:")[0]
    assert f"sweep=table/{name}" in head
    if "study=" in head:
        assert (CONF / "study" / f"{head.partition('study=')[2].split()[0]}.yaml").is_file()


@pytest.mark.parametrize("name", option_names("sweep/space"))
def test_a_space_has_settings_of_its_models(name):
    text = (CONF / "sweep/space" / f"{name}.yaml").read_text()
    assert text.startswith("# @package hydra.sweeper.params\n# ")
    params = yaml.safe_load(text)
    space = SearchSpace(OverridesParser.create().parse_overrides([f"{key}={value}" for key, value in params.items()]))
    assert list(space.searched) == list(params)
    optim = read_yaml("optim", "ranking" if "optim.l2" in params else "adam")
    for model in MODELS[name]:
        config = {"model": model_config(model), "optim": optim}
        for key in params:
            node = config
            for part in key.split("."):
                assert part in node, (model, key)
                node = node[part]


@pytest.mark.parametrize("name", ["grid", "random", "tpe", "hyperband", "successive_halving"])
def test_presets_set_known_settings_only(name):
    preset = read_yaml("sweep", name)
    assert preset["hydra"] == {"mode": "MULTIRUN"}
    assert set(preset["sweep"]) <= set(read_yaml("", "train")["sweep"])


def test_the_words_of_a_wandb_agent_are_settings(monkeypatch):
    sweep = yaml.safe_load((CONF.parent / "scripts/launch/wandb_sweep.yaml").read_text())
    assert sweep["command"][2:4] == ["-m", "stemlab.train"]
    assert sweep["command"][-1] == "${args_no_hyphens}"
    space = {"model": model_config("stem"), "optim": read_yaml("optim", "adam")}
    for key in sweep["parameters"]:
        node = space
        for part in key.split("."):
            node = node[part]
    words = ["--optim.lr=0.001", "model.net.net_dropout=0.1", "--config-name=train", "--cfg=job"]
    monkeypatch.setattr("sys.argv", ["train", *words])
    arguments = _parse()
    assert sorted(arguments.overrides) == ["model.net.net_dropout=0.1", "optim.lr=0.001"]
    assert (arguments.config_name, arguments.cfg) == ("train", "job")

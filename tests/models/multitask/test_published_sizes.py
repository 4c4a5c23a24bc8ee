"""The configs in conf/ build networks of the released sizes and initial distributions."""

from __future__ import annotations

import inspect
import json
from typing import Any

import pytest
import torch

from stemlab.config.instantiate import instantiate
from stemlab.models import parameter_counts
from stemlab.models.multitask import STEM
from stemlab.models.multitask.base import TabularNet
from tests.conf_files import model_config, model_names
from tests.conftest import GOLDEN, require
from tests.golden.names import Names

TIKTOK = dict.fromkeys(["uid", "item_id", "author_id", "item_city", "channel", "music_id", "device_id", "duration"], 10)
# model -> dense parameters (docs/methods/stem.md#parameter-counts), blocks of 16 in a row of a table
PUBLISHED = {
    "single_task": (673_665, 1),
    "shared_bottom": (755_970, 1),
    "omoe": (4_904_138, 1),
    "mmoe": (4_929_426, 1),
    "mmoe_me": (4_929_426, 8),
    "ple": (6_137_564, 1),
    "ple_me": (6_137_564, 3),
    "aitm": (2_397_954, 1),
    "esmm": (1_183_746, 1),
    "stem": (6_137_824, 3),
}


def net(name: str) -> TabularNet:
    tasks = ["finish"] if name == "single_task" else ["finish", "like"]
    return instantiate(model_config(name)["net"], TIKTOK, tasks)


def test_there_is_a_config_for_every_network() -> None:
    assert set(model_names()) >= set(PUBLISHED)


@pytest.mark.parametrize("name", PUBLISHED)
def test_parameters(name: str) -> None:
    dense, blocks = PUBLISHED[name]
    assert parameter_counts(net(name)) == {"dense": dense, "embedding": 8 * 10 * 16 * blocks}


@pytest.mark.parametrize("name", PUBLISHED)
def test_configs_name_every_setting(name: str) -> None:
    values = model_config(name)
    settings = inspect.signature(type(net(name)).__init__).parameters.values()
    expected = {s.name for s in settings if s.kind is inspect.Parameter.KEYWORD_ONLY}
    assert set(values["net"]) - {"_target_"} == expected
    assert values["name"] == name
    assert values["embedding_regularizer"] == 1e-6
    assert values["net_regularizer"] == 0.0
    assert values["embedding_regularizer_mode"] == "dense"
    assert values["loss_form"] == "logits"
    assert (values["loss_reduction"], values["scenario_feature"]) == ("sum", True)
    assert values["task"] is None


@pytest.mark.parametrize("name", PUBLISHED)
def test_defaults_in_code_are_those_of_the_config(name: str) -> None:
    values = model_config(name)["net"]
    settings = inspect.signature(type(net(name)).__init__).parameters.values()
    written = {s.name: s.default for s in settings if s.default is not inspect.Parameter.empty}
    assert written == {key: values[key] for key in written}


def moments(values: torch.Tensor) -> tuple[float, float, float]:
    values = values.detach().double().flatten()
    centred = values - values.mean()
    spread = centred.square().mean().sqrt()
    return float(values.mean()), float(spread), float((centred / spread).pow(4).mean())


def initial_net(stats: dict[str, Any]) -> tuple[STEM, Names]:
    """Build the network whose initial values were measured; its sizes are in the names and shapes."""
    fields = {name.split(".")[-2]: s["shape"][0] for name, s in stats.items() if "embedding_layers" in name}
    width = next(s["shape"][1] for name, s in stats.items() if "embedding_layers" in name)
    torch.manual_seed(2023)
    small = {"expert_hidden_units": [512, 512], "gate_hidden_units": [128], "tower_hidden_units": [128]}
    one = {"num_layers": 1, "num_shared_experts": 1, "num_specific_experts": 1}
    built = STEM(fields, ["finish", "like"], embedding_dim=width // 3, **small, **one)
    return built, Names("STEM", tuple(fields), 2, 1)


def test_initial_distributions() -> None:
    stats = json.loads(require(GOLDEN / "init" / "init_stats.json").read_text())["stem"]
    zero_padding = stats.pop("padding_row_is_zero")
    built, names = initial_net(stats)
    state = built.state_dict()
    for name, measured in stats.items():
        values = state[names.ours(name)]
        assert list(values.shape) == measured["shape"]
        if name.endswith("bias"):
            assert measured["min"] == measured["max"] == 0
            assert not values.any()
            continue
        mean, spread, kurtosis = moments(values)
        error = (2 / values.numel()) ** 0.5  # both are samples
        assert mean == pytest.approx(measured["mean"], abs=5 * measured["std"] * error)
        assert spread == pytest.approx(measured["std"], rel=5 * error / 2**0.5)
        assert kurtosis == pytest.approx(measured["kurtosis"], abs=5 * error * 24**0.5)
    assert zero_padding
    assert not any(weight[0].any() for weight in built.embedding_parameters())
    assert all(bool(weight[1].all()) for weight in built.embedding_parameters())


@pytest.mark.parametrize("name", PUBLISHED)
def test_every_network_starts_from_the_released_distributions(name: str) -> None:
    built = net(name)
    for weight in built.embedding_parameters():
        assert not weight[0].any()
        assert 0.5e-4 < weight[1:].std().item() < 1.6e-4
    for module in built.modules():
        if isinstance(module, torch.nn.Linear):
            assert not module.bias.any()
            expected = (2 / sum(module.weight.shape)) ** 0.5
            tolerance = 6 / (2 * module.weight.numel()) ** 0.5
            assert module.weight.std().item() == pytest.approx(expected, rel=tolerance)

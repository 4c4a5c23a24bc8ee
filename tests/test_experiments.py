"""Every experiment file says what the published settings say (spec/stem.md section 3, spec/ml1m_multitask.md)."""

from pathlib import Path

import pytest
import yaml

from stemlab.config.build import build_net
from stemlab.config.compose import CommandLine, compose
from stemlab.config.sweep import check_command_line
from stemlab.data.spec import DatasetSpec, Field
from stemlab.models import parameter_counts

CONF = Path(__file__).resolve().parents[1] / "conf"

BIG = {"expert_hidden_units": [512, 512, 512], "gate_hidden_units": [128, 64], "tower_hidden_units": [128, 64]}
BIG_BOTTOM = {"bottom_hidden_units": [512, 512, 512], "tower_hidden_units": [128, 128]}
BIG_CGC = BIG | {"num_layers": 1, "num_shared_experts": 8, "num_specific_experts": 1}
SMALL = {"expert_hidden_units": [128, 64], "gate_hidden_units": [64], "tower_hidden_units": [64]}
SMALL_BOTTOM = {"bottom_hidden_units": [128, 64], "tower_hidden_units": [64]}
SMALL_CGC = SMALL | {"num_layers": 1, "num_shared_experts": 4, "num_specific_experts": 1}
AFTB = {"gate": "aftb", "gate_input": "sum", "tables": "shared+specific"}

# file -> (model, task, structure, learning rate, epochs, dense parameters at 8 fields x 16)
TIKTOK = {
    "single_task_finish": ("single_task", "finish", BIG_BOTTOM, 1e-4, 20, 673_665),
    "single_task_like": ("single_task", "like", BIG_BOTTOM, 1e-4, 20, 673_665),
    "shared_bottom": ("shared_bottom", None, BIG_BOTTOM, 1e-4, 20, 755_970),
    "omoe": ("omoe", None, BIG | {"num_experts": 8}, 1e-4, 20, 4_904_138),
    "mmoe": ("mmoe", None, BIG | {"num_experts": 8}, 1e-4, 20, 4_929_426),
    "ple": ("ple", None, BIG_CGC | {"shared_gate": "shared"}, 1e-4, 20, 6_137_564),
    "aitm": ("aitm", None, BIG_BOTTOM, 1e-4, 20, 2_397_954),
    "esmm": ("esmm", None, {"tower_hidden_units": [512, 512, 512]}, 1e-4, 50, 1_183_746),
    "mmoe_me": ("mmoe_me", None, BIG | {"num_experts": 8}, 1e-4, 20, 4_929_426),
    "ple_me": ("ple_me", None, BIG_CGC | {"shared_gate": "shared"}, 1e-4, 20, 6_137_564),
    "stem": ("stem", None, BIG_CGC | AFTB, 1e-3, 20, 6_137_824),
}
ML1M = {
    "single_task_like": ("single_task", "like", SMALL_BOTTOM),
    "single_task_love": ("single_task", "love", SMALL_BOTTOM),
    "shared_bottom": ("shared_bottom", None, SMALL_BOTTOM),
    "omoe": ("omoe", None, SMALL | {"num_experts": 6}),
    "mmoe": ("mmoe", None, SMALL | {"num_experts": 6}),
    "ple": ("ple", None, SMALL_CGC | {"shared_gate": "shared"}),
    "aitm": ("aitm", None, SMALL_BOTTOM),
    "esmm": ("esmm", None, {"tower_hidden_units": [128, 64]}),
    "mmoe_me": ("mmoe_me", None, SMALL | {"num_experts": 6}),
    "ple_me": ("ple_me", None, SMALL_CGC | {"shared_gate": "shared"}),
    "stem": ("stem", None, SMALL_CGC | AFTB),
}
EVERY_NET = {
    "embedding_dim": 16,
    "hidden_activations": "relu",
    "net_dropout": 0.0,
    "batch_norm": False,
    "padding": True,
}


def common(config):
    """What all runs share: optimiser, batch, monitor, stopping rule, split, vocabulary."""
    optim, stop = config["optim"], config["callbacks"]["early_stop"]
    assert (optim["name"], optim["betas"], optim["eps"], optim["clip_norm"]) == ("adam", [0.9, 0.999], 1e-8, 10.0)
    assert optim["plateau"] == {"enabled": True, "factor": 0.1, "min_lr": 1e-6, "threshold": 1e-6}
    assert (stop["enabled"], stop["monitor"], stop["mode"], stop["patience"]) == (True, "val/auc", "max", 1)
    model, dataset = config["model"], config["dataset"]
    assert (model["embedding_regularizer"], model["net_regularizer"]) == (1e-6, 0.0)
    assert model["embedding_regularizer_mode"] == "dense"
    assert (dataset["batch_size"], dataset["min_count"], config["seed"]) == (4096, 10, 2023)
    assert dataset["split"] == {"rule": "random", "test_size": 0.1, "valid_size": 0.1, "seed": 42}


def structure(config):
    return {key: value for key, value in config["model"]["net"].items() if key != "_target_"}


def dense_parameters(config):
    fields = tuple(Field(name, 3) for name in config["dataset"]["fields"])
    spec = DatasetSpec(config["dataset"]["name"], fields, tuple(config["dataset"]["tasks"]))
    return parameter_counts(build_net(config, spec))["dense"]


@pytest.mark.parametrize("name", TIKTOK)
def test_tiktok(name):
    model, task, net, lr, epochs, parameters = TIKTOK[name]
    config = compose("train", [f"experiment=tiktok/{name}"])
    common(config)
    assert (config["dataset"]["name"], config["dataset"]["tasks"]) == ("tiktok", ["finish", "like"])
    assert config["dataset"]["group"] == "uid"
    assert len(config["dataset"]["fields"]) == 8
    assert (config["model"]["name"], config["model"]["task"]) == (model, task)
    assert structure(config) == EVERY_NET | net
    assert (config["optim"]["lr"], config["trainer"]["max_epochs"]) == (lr, epochs)
    assert dense_parameters(config) == parameters


@pytest.mark.parametrize("name", ML1M)
def test_ml1m_multitask(name):
    model, task, net = ML1M[name]
    config = compose("train", [f"experiment=ml1m_multitask/{name}"])
    common(config)
    assert (config["dataset"]["name"], config["dataset"]["tasks"]) == ("ml1m_multitask", ["like", "love"])
    assert (config["dataset"]["group"], len(config["dataset"]["fields"])) == ("user_id", 8)
    assert (config["model"]["name"], config["model"]["task"]) == (model, task)
    assert structure(config) == EVERY_NET | net
    assert (config["optim"]["lr"], config["trainer"]["max_epochs"]) == (1e-3, 20)


def test_no_file_is_left_out():
    found = {path.relative_to(CONF / "experiment").with_suffix("").as_posix() for path in CONF.glob("experiment/*/*")}
    conflict = {f"tiktok_conflict/{name}" for name in ("mmoe", "ple", "stem")}  # trained in tests/data
    assert found == {f"tiktok/{name}" for name in TIKTOK} | {f"ml1m_multitask/{name}" for name in ML1M} | conflict


def test_files_are_short():
    for path in CONF.glob("experiment/*/*.yaml"):
        lines = path.read_text().splitlines()
        assert lines[0] == "# @package _global_"
        assert len(lines) < 40


@pytest.mark.parametrize(
    ("words", "jobs"),
    [
        (("sweep=stem_grid",), 4 * 3 * 8 * 4 * 5),
        (("sweep=seeds", "experiment=tiktok/mmoe"), 5),
        (("sweep=three_seeds", "experiment=ml1m_multitask/ple"), 3),
        (("sweep=learning_rate", "experiment=tiktok/ple"), 3),
    ],
)
def test_sweeps_compose(words, jobs):
    assert check_command_line(CommandLine("train", words)) is True
    assert jobs == product_of_params(words[0].removeprefix("sweep="))


def product_of_params(name):
    params = yaml.safe_load((CONF / "sweep" / f"{name}.yaml").read_text())["hydra"]["sweeper"]["params"]
    total = 1
    for values in params.values():
        total *= len(str(values).split(","))
    return total


def test_grid_is_the_official_one():
    params = yaml.safe_load((CONF / "sweep/stem_grid.yaml").read_text())["hydra"]["sweeper"]["params"]
    numbers = {key: [float(x) for x in values.split(",")] for key, values in params.items()}
    assert numbers == {
        "model.net.num_shared_experts": [1, 2, 4, 8],
        "model.net.num_specific_experts": [1, 2, 4],
        "model.embedding_regularizer": [1e-6, 5e-6, 1e-5, 5e-5, 1e-4, 5e-4, 1e-3, 5e-3],
        "model.net.net_dropout": [0.0, 0.1, 0.2, 0.3],
        "seed": [2023, 76, 525, 728, 42],
    }
    config = compose("train", ["sweep=stem_grid"])
    assert (config["model"]["name"], config["dataset"]["name"], config["optim"]["lr"]) == ("stem", "tiktok", 1e-4)
    assert structure(config) == EVERY_NET | BIG_CGC | AFTB


def test_a_typed_value_wins_over_the_experiment():
    config = compose("train", ["experiment=tiktok/stem", "optim.lr=0.5", "dataset.batch_size=64", "seed=7"])
    assert (config["optim"]["lr"], config["dataset"]["batch_size"], config["seed"]) == (0.5, 64, 7)

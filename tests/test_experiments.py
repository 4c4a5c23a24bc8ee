"""Every experiment file has the published settings.

Sources: docs/methods/multitask.md#settings, docs/methods/multitask.md#movielens-1m-protocol,
docs/methods/timirec.md#published-values and docs/methods/timirec.md#grocery-table.
"""

import functools
from pathlib import Path

import pytest
import yaml

from stemlab.config.compose import CommandLine, compose
from stemlab.config.sweep import check_command_line
from stemlab.data.spec import DatasetSpec, Field, SequenceSizes
from stemlab.models import parameter_counts
from stemlab.nn.init import SkipInit
from stemlab.runs.build import build_net

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

OPTIONS = {"init": "stem", "one_width_per_layer": False, "calibrator_weight": 0.0}

# file -> (model, stage, structure, learning rate, L2, parameters with 14,681 users and 8,713 items)
INTERESTS = {"attention_dim": 8, "position_embedding": True, "mask_padding": True}
PUBLISHED = {"similarity": "cosine", "detach_target": True, "temperature_in_mixing": False, "share_item_tables": False}
TIMIREC = INTERESTS | PUBLISHED | {"projection_dropout": 0.5}
K6 = TIMIREC | {"num_interests": 6, "temperature": 1.0, "projection_layers": 1}
ITEMS, USERS = 8714 * 64, 14682 * 64  # tables with a padding row
GRU_100 = 3 * 100 * (64 + 100 + 2)
LAYER = 3 * (64 * 64 + 64) + 2 * (64 * 64 + 64) + 2 * 2 * 64  # query, key, value; two linear layers; two norms
ATTENTION_6 = 21 * 64 + (64 * 8 + 8) + (8 * 6 + 6)  # positions, W1, W2
PREDICTOR_6 = 8715 * 64 + 3 * 64 * (64 + 64 + 2) + (64 * 6 + 6)
GROCERY = {
    "bprmf": ("bprmf", None, {}, 1e-3, 1e-6, USERS + ITEMS),
    "lightgcn": ("lightgcn", None, {"num_layers": 3}, 1e-3, 1e-8, USERS + ITEMS),
    "gru4rec": ("gru4rec", None, {"hidden_dim": 100}, 1e-3, 1e-4, ITEMS + GRU_100 + 6464),
    "youtube": ("youtube", None, {"padding": "published"}, 1e-3, 1e-6, ITEMS + 64 * 64 + 64),
    "mind": (
        *("mind", None, {"num_interests": 2, "iterations": 3, "power": None, "relu_layer": False}),
        *(1e-3, 1e-6, ITEMS + 64 * 64),
    ),
    "sasrec": (
        *("sasrec", None, {"num_layers": 1, "num_heads": 1, "dropout": 0.0}),
        *(1e-4, 1e-6, ITEMS + 21 * 64 + LAYER),
    ),
    "tisasrec": (
        *("tisasrec", None, {"num_layers": 1, "num_heads": 1, "dropout": 0.0, "time_max": 512}),
        *(1e-4, 1e-6, ITEMS + 2 * 21 * 64 + 2 * 513 * 64 + LAYER),
    ),
    "comirec": (
        *("comirec", None, INTERESTS | {"num_interests": 4}),
        *(1e-3, 1e-6, ITEMS + 21 * 64 + (64 * 8 + 8) + (8 * 4 + 4)),
    ),
    "comirec_plus": (
        *("comirec_plus", "pretrain", K6 | {"transformer": True}),
        *(1e-4, 1e-6, ITEMS + ATTENTION_6 + LAYER),
    ),
    "timirec": (  # interests and learning rate of comirec
        *("timirec", "both", K6 | {"transformer": False, "num_interests": 4}),
        *(1e-3, 1e-6, ITEMS + ATTENTION_6 + PREDICTOR_6 - 2 * (8 + 1) - 2 * (64 + 1)),
    ),
    "timirec_plus": (
        *("timirec_plus", "both", K6 | {"transformer": True}),
        *(1e-4, 1e-6, ITEMS + ATTENTION_6 + LAYER + PREDICTOR_6),
    ),
}
ML1M_TIMIREC = {
    "timirec_pretrain": ("pretrain", 260_186),
    "timirec": ("both", 526_748),
}  # docs/methods/timirec.md#parameter-counts
BEAUTY_TIMIREC = {"timirec_pretrain": "pretrain", "timirec": "both"}


@functools.cache
def experiment(name):
    """Return the composed config of an experiment file; tests only read it."""
    return compose("train", [f"experiment={name}"])


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
    published = {"rule": "random", "test_size": 0.1, "valid_size": 0.1, "seed": 42}
    assert published.items() <= dataset["split"].items()  # its other settings belong to other rules


def structure(config):
    net = {key: value for key, value in config["model"]["net"].items() if key != "_target_"}
    # options for other released codes are off
    assert all(net.pop(key, off) == off for key, off in OPTIONS.items())
    return net


def counts_of(config, sizes):
    with SkipInit():  # no test reads the values
        return parameter_counts(build_net(config, sizes))


def dense_parameters(config):
    fields = tuple(Field(name, 3) for name in config["dataset"]["fields"])
    spec = DatasetSpec(config["dataset"]["name"], fields, tuple(config["dataset"]["tasks"]))
    return counts_of(config, spec)["dense"]


@pytest.mark.parametrize("name", TIKTOK)
def test_tiktok(name):
    model, task, net, lr, epochs, parameters = TIKTOK[name]
    config = experiment(f"tiktok/{name}")
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
    config = experiment(f"ml1m_multitask/{name}")
    common(config)
    assert (config["dataset"]["name"], config["dataset"]["tasks"]) == ("ml1m_multitask", ["like", "love"])
    assert (config["dataset"]["group"], len(config["dataset"]["fields"])) == ("user_id", 8)
    assert (config["model"]["name"], config["model"]["task"]) == (model, task)
    assert structure(config) == EVERY_NET | net
    assert (config["optim"]["lr"], config["trainer"]["max_epochs"]) == (1e-3, 20)


def common_sequential(config):
    """What all ranking runs share: epochs, batch, history, negatives, stopping rule, evaluation."""
    stop, best = config["callbacks"]["early_stop"], config["callbacks"]["checkpoint"]
    assert (stop["enabled"], stop["mode"], stop["window"], stop["patience"]) == (True, "max", 10, 20)
    assert stop["monitor"] == best["monitor"] == config["objective"] == "val/ndcg@5"
    dataset = config["dataset"]
    assert (dataset["batch_size"], dataset["eval_batch_size"], dataset["history_max"]) == (256, 256, 20)
    assert (dataset["num_negatives"], dataset["train_negatives"]) == (1, "train")
    assert dataset["evaluation"] == {"candidates": "stored", "topk": [5, 10, 20, 50], "ties": "pessimistic"}
    assert (config["trainer"]["max_epochs"], config["optim"]["name"], config["trainer"]["precision"]) == (
        *(200, "adam"),
        "32-true",
    )


@pytest.mark.parametrize("name", GROCERY)
def test_grocery(name):
    model, stage, net, lr, l2, parameters = GROCERY[name]
    config = experiment(f"grocery/{name}")
    common_sequential(config)
    assert (config["dataset"]["name"], config["seed"]) == ("grocery", 0)
    assert (config["model"]["name"], config["model"].get("stage")) == (model, stage)
    assert structure(config) == {"embedding_dim": 64} | net
    assert (config["optim"]["lr"], config["optim"]["l2"]) == (lr, l2)
    assert sum(counts_of(config, SequenceSizes(14_681, 8_713, 20)).values()) == parameters


@pytest.mark.parametrize("name", ML1M_TIMIREC)
def test_ml1m_timirec(name):
    stage, parameters = ML1M_TIMIREC[name]
    config = experiment(f"ml1m/{name}")
    common_sequential(config)
    assert (config["dataset"]["name"], config["dataset"]["eval_negatives"], config["seed"]) == ("ml1m", 1000, 1)
    assert (config["model"]["name"], config["model"]["stage"]) == ("timirec", stage)
    two = {"num_interests": 2, "temperature": 0.5, "projection_layers": 2, "transformer": True}
    assert structure(config) == {"embedding_dim": 64} | TIMIREC | two
    assert (config["optim"]["lr"], config["optim"]["l2"]) == (1e-4, 1e-6)
    assert sum(counts_of(config, SequenceSizes(6_040, 3_706, 20)).values()) == parameters


@pytest.mark.parametrize("name", BEAUTY_TIMIREC)
def test_beauty_timirec(name):
    config = experiment(f"beauty/{name}")
    common_sequential(config)
    assert (config["dataset"]["name"], config["dataset"]["eval_negatives"], config["seed"]) == ("beauty", 1000, 0)
    assert (config["model"]["name"], config["model"]["stage"]) == ("timirec", BEAUTY_TIMIREC[name])
    four = {"num_interests": 4, "temperature": 0.1, "projection_layers": 1, "transformer": True}
    assert structure(config) == {"embedding_dim": 64} | TIMIREC | four
    assert (config["optim"]["lr"], config["optim"]["l2"]) == (1e-4, 1e-6)


def test_no_file_is_left_out():
    found = {path.relative_to(CONF / "experiment").with_suffix("").as_posix() for path in CONF.glob("experiment/*/*")}
    found = {name for name in found if not name.startswith(("aliexpress/", "kuairand_log/"))}  # in files of their own
    tables = {
        "tiktok": TIKTOK,
        "ml1m_multitask": ML1M,
        "grocery": GROCERY,
        "ml1m": ML1M_TIMIREC,
        "beauty": BEAUTY_TIMIREC,
    }
    known = {f"{folder}/{name}" for folder, names in tables.items() for name in names}
    assert found == known | {
        f"tiktok_conflict/{name}" for name in ("mmoe", "ple", "single_task", "stem")
    }  # trained in tests/data


@pytest.mark.parametrize("path", sorted(CONF.glob("experiment/*/*.yaml")), ids=lambda path: path.stem)
def test_every_file_composes_is_short_and_names_its_source(path):
    text = path.read_text()
    assert text.startswith("# @package _global_\n# ")
    assert len(text.splitlines()) < 40
    config = experiment(path.relative_to(CONF / "experiment").with_suffix("").as_posix())
    assert path.stem.removeprefix("mtreclib_").removeprefix("sample_").startswith(config["model"]["name"])
    assert path.parent.name.startswith(config["dataset"]["name"])


@pytest.mark.parametrize(
    ("words", "jobs"),
    [
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
    assert product_of_params("stem_grid") == 4 * 3 * 8 * 4 * 5  # all of them are checked in tests/config/test_trees.py


def test_a_command_line_value_overrides_the_experiment():
    config = compose("train", ["experiment=tiktok/stem", "optim.lr=0.5", "dataset.batch_size=64", "seed=7"])
    assert (config["optim"]["lr"], config["dataset"]["batch_size"], config["seed"]) == (0.5, 64, 7)

"""Every model trains on two ranks as on one: the same losses, also with batch normalisation and dropout."""

from __future__ import annotations

import pytest

from stemlab.config.compose import CommandLine, compose_job, hydra_context
from stemlab.runs.build import build_datamodule
from tests import tiny_datasets
from tests.conf_files import model_config, model_names
from tests.test_matrix import small
from tests.two_ranks import Config, Job, largest_differences

MODELS = {name: model_config(name) for name in model_names()}
TRAINED = [name for name in MODELS if name != "pop"]
DATASETS = {"sequential": ("ml1m", 12), "multitask": ("aliexpress", 32)}
"""Dataset and batch size of all ranks together."""
HARDER = {
    "net_dropout": 0.3,
    "dropout": 0.3,
    "projection_layers": 2,
    "projection_dropout": 0.3,
    "batch_norm": True,
    "mask_padding": False,
    "sparsity_weight": 1.0,
    "calibrator_weight": 0.5,
    "bn_all_rows": True,
}
"""Settings that depend on several samples or on random numbers, for the networks that have them."""
STATIC = ("star", "sar_net", "m2m", "mmfi")
"""Networks with another form for accelerators."""


def harder(config: Config) -> tuple[str, Config]:
    """Return the harder settings that the network of a config has, as a text, and the config with them."""
    chosen = {name: value for name, value in HARDER.items() if name in config["model"]["net"]}
    model = config["model"] | {"net": config["model"]["net"] | chosen}
    return ", ".join(chosen), config | {"model": model}


@pytest.fixture(scope="module")
def jobs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Job]:
    """Each model, and each model with its harder settings."""
    home, made, prepared = tmp_path_factory.mktemp("two_ranks"), {}, {}
    with hydra_context(CommandLine("train")):
        words = {
            family: [*tiny_datasets.overrides(dataset, home), f"dataset.batch_size={batch_size}"]
            for family, (dataset, batch_size) in DATASETS.items()
        }
        for model in TRAINED:
            family = "sequential" if MODELS[model]["family"] == "sequential" else "multitask"
            config = compose_job("train", [f"model={model}", *words[family]])
            config["model"]["net"] = small(config["model"]["net"])
            data = build_datamodule(config)
            key = (family, getattr(data, "first_interactions", False), getattr(data, "with_categories", False))
            if key not in prepared:
                prepared[key] = data.prepare()
            made[model] = Job(config, prepared[key], steps=10)
            chosen, config = harder(config)
            if chosen:
                made[f"{model} with {chosen}"] = Job(config, prepared[key], steps=4)
            if model in STATIC:
                made[f"{model} in static shapes"] = Job(config, prepared[key], steps=4, device_forms=True)
    return made


@pytest.mark.ddp
def test_two_ranks_train_like_one(jobs: dict[str, Job]) -> None:
    differences = largest_differences(jobs)
    assert set(TRAINED) <= set(differences)
    print("\n".join(f"{value:.1e}  {name}" for name, value in differences.items()))
    assert {name: value for name, value in differences.items() if value > 1e-5} == {}

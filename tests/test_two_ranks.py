"""Every model trains on two ranks as on one: the same losses, also with batch normalisation and dropout."""

from __future__ import annotations

from pathlib import Path

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
DIVIDED = ("stem", "ame", "mmfi", "metaheac")
"""Networks with divided embedding tables: one embedding, several, vectors of scenarios, second-order gradients."""
CLIPPED = {"embedding_regularizer": 0.01, "net_regularizer": "l1_l2(0.001, 0.001)"}
"""Penalties of a model whose gradients are clipped."""
STATIC = ("star", "sar_net", "m2m", "mmfi")
"""Networks with another form for accelerators."""


def harder(config: Config) -> tuple[str, Config]:
    """Return the harder settings that the network of a config has, as a text, and the config with them."""
    chosen = {name: value for name, value in HARDER.items() if name in config["model"]["net"]}
    model = config["model"] | {"net": config["model"]["net"] | chosen}
    return ", ".join(chosen), config | {"model": model}


def divided(model: str, config: Config, directory: Path) -> dict[str, Job]:
    """Return trainings whose ranks hold parts of the embedding tables; those of STEM have penalties and clipping."""
    made = {
        f"{model}, {embedding}": Job(config, directory, steps=3, embedding=embedding)
        for embedding in ("row_sharded", "column_sharded")
    }
    if model == "stem":
        small_batch = config | {
            "dataset": config["dataset"] | {"batch_size": 10},
            "optim": config["optim"] | {"clip_norm": 0.05},
        }
        for mode, embedding in (("dense", "row_sharded"), ("batch", "row_sharded"), ("dense", "column_sharded")):
            penalised = small_batch | {"model": config["model"] | CLIPPED | {"embedding_regularizer_mode": mode}}
            made[f"{model}, {embedding}, {mode} penalty"] = Job(
                penalised, directory, 50, embedding=embedding, clip=True
            )
    return made


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
            if model in DIVIDED:
                made |= divided(model, made[model].config, prepared[key])
            if model in STATIC:
                made[f"{model} in static shapes"] = Job(config, prepared[key], steps=4, device_forms=True)
    return made


@pytest.mark.ddp
def test_two_ranks_train_like_one(jobs: dict[str, Job]) -> None:
    differences = largest_differences(jobs)
    assert set(TRAINED) <= set(differences)
    print("\n".join(f"{value:.1e}  {name}" for name, value in differences.items()))
    assert {name: value for name, value in differences.items() if value > 1e-5} == {}
    parts = {name: value for name, value in differences.items() if "sharded" in name}
    assert len(parts) == 2 * len(DIVIDED) + 3
    assert max(parts.values()) < 1e-6

"""Every model trains on two ranks as on one: the same losses, also with batch normalisation and dropout."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from pytorch_lightning import seed_everything

from stemlab.config.compose import CommandLine, compose_job, hydra_context
from stemlab.errors import StemlabError
from stemlab.nn.row_embedding import row_weight_names
from stemlab.runs.build import build_datamodule, build_module
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
DIVIDED_ITEMS = {"timirec": 50, "bprmf": 3, "tin": 3, "comirec": 3, "sasrec": 3}
"""Sequential networks with divided tables, and their steps: deduplicated histories, tables only, categories, ..."""
CLIPPED = {"embedding_regularizer": 0.01, "net_regularizer": "l1_l2(0.001, 0.001)"}
"""Penalties of a model whose gradients are clipped."""
BY_ROWS = {
    "stem": ("sparse_adam", "rowwise_adagrad"),
    "hinet": ("sparse_adam",),
    "timirec": ("rowwise_adagrad",),
    "comirec": ("sparse_adam",),
    "bprmf": ("sparse_adam",),
}
"""Networks whose tables are trained by rows too; the last one has only tables."""
BALANCED = {"stem": "upgrad", "mmoe": "gradnorm", "aitm": "pcgrad", "metaheac": "imtl_g"}
BALANCED |= {"mmfi": "uncertainty", "hinet": "gls"}
"""Networks with a method of ``model.balancing``: the inner products of gradients are those of the global batch."""
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
        # 8 samples per rank: tables of 10 rows are divided, that of the 6 scenarios is not
        mixed = config | {"dataset": config["dataset"] | {"batch_size": 16}}
        made[f"{model}, auto sharded"] = Job(mixed, directory, steps=3, embedding="auto")
        for mode, embedding in (("dense", "row_sharded"), ("batch", "row_sharded"), ("dense", "column_sharded")):
            penalised = small_batch | {"model": config["model"] | CLIPPED | {"embedding_regularizer_mode": mode}}
            made[f"{model}, {embedding}, {mode} penalty"] = Job(
                penalised, directory, 50, embedding=embedding, clip=True
            )
    return made


def divided_items(model: str, config: Config, directory: Path) -> dict[str, Job]:
    """Return trainings of a sequential model whose ranks hold parts of its tables, with L2 and an evaluation."""
    config = config | {
        "optim": config["optim"] | {"l2": 1e-3},
        "dataset": config["dataset"] | {"batch_size": 8},
    }
    return {
        f"{model}, {embedding}": Job(config, directory, DIVIDED_ITEMS[model], embedding=embedding, evaluate=True)
        for embedding in ("row_sharded", "column_sharded")
    }


def by_rows(config: Config, rule: str) -> Config:
    """Return a config whose tables are trained by rows, with an L2 penalty."""
    config = config | {"optim": config["optim"] | {"tables": rule, "tables_lr": 0.01}}
    if "l2" in config["optim"]:
        return config | {"optim": config["optim"] | {"l2": 1e-3}}
    penalty = {"embedding_regularizer": 1e-3, "embedding_regularizer_mode": "batch"}
    return config | {"model": config["model"] | penalty}


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
            if model in DIVIDED_ITEMS:
                made |= divided_items(model, made[model].config, prepared[key])
            if model in BALANCED:
                balanced = config["model"] | {"balancing": BALANCED[model]}
                made[f"{model} with balancing"] = Job(config | {"model": balanced}, prepared[key], steps=6)
            for rule in BY_ROWS.get(model, ()):
                made[f"{model} with {rule}"] = Job(by_rows(config, rule), prepared[key], steps=4)
    return made


@pytest.mark.ddp
def test_two_ranks_train_like_one(jobs: dict[str, Job]) -> None:
    differences = largest_differences(jobs)
    assert set(TRAINED) <= set(differences)
    print("\n".join(f"{value:.1e}  {name}" for name, value in differences.items()))
    assert {name: value for name, value in differences.items() if value > 1e-5} == {}
    parts = {name: value for name, value in differences.items() if "sharded" in name}
    assert len(parts) == 2 * (len(DIVIDED) + len(DIVIDED_ITEMS)) + 4
    assert max(parts.values()) < 1e-6
    balanced = {name: value for name, value in differences.items() if "balancing" in name}
    assert len(balanced) == len(BALANCED)
    assert max(balanced.values()) < 1e-6
    rows = {name: value for name, value in differences.items() if name.endswith(("sparse_adam", "rowwise_adagrad"))}
    assert len(rows) == sum(len(rules) for rules in BY_ROWS.values())
    assert max(rows.values()) < 1e-6


@pytest.mark.parametrize("name", TRAINED)
def test_rows_have_the_gradient_of_the_dense_table(name: str, jobs: dict[str, Job]) -> None:
    job = jobs[name]
    data = build_datamodule(job.config)
    data.adopt(job.directory)
    batch = next(iter(data.train_dataloader()))
    grads = []
    for rule in ("dense_adam", "sparse_adam"):
        seed_everything(0, verbose=False)
        module = build_module(job.config | {"optim": job.config["optim"] | {"tables": rule}}, data)
        if name != "lightgcn":
            module.on_train_epoch_start()
            module.losses(batch)[0].backward()
            grads.append({key: weight.grad for key, weight in module.net.named_parameters()})
    if name == "lightgcn":
        with pytest.raises(StemlabError, match="dense_adam"):
            module.configure_optimizers()
        return
    sparse = [key for key, grad in grads[1].items() if grad is not None and grad.is_sparse]
    assert sparse == row_weight_names(module.net)
    for key, expected in grads[0].items():
        assert (expected is None) == (grads[1][key] is None), key
        if expected is not None:
            torch.testing.assert_close(grads[1][key].to_dense(), expected, rtol=1e-5, atol=1e-8, msg=key)

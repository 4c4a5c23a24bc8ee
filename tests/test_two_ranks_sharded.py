"""Impression networks whose embedding tables are divided among two ranks train as one process does."""

from __future__ import annotations

import pytest

from stemlab.config.compose import CommandLine, compose_job, hydra_context
from stemlab.runs.build import build_datamodule
from tests import tiny_datasets
from tests.test_matrix import small
from tests.two_ranks import Job, largest_differences

MODELS = ("ame", "mmfi", "metaheac", "ple")
"""Several embeddings, vectors of scenarios, second-order gradients, one table for all experts."""
CLIPPED = ["optim.clip_norm=0.05", "model.embedding_regularizer=0.01", "model.net_regularizer='l1_l2(0.001,0.001)'"]
STEPS, BATCH_SIZE = 50, 10


@pytest.fixture(scope="module")
def jobs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Job]:
    home, made = tmp_path_factory.mktemp("sharded"), {}
    words = tiny_datasets.overrides("aliexpress", home)
    with hydra_context(CommandLine("train")):
        for model in MODELS:
            config = compose_job("train", [f"model={model}", *words, "dataset.batch_size=32"])
            config["model"]["net"] = small(config["model"]["net"])
            directory = build_datamodule(config).prepare() if not made else next(iter(made.values())).directory
            made[model] = Job(config, directory, steps=3, embedding="row_sharded")
            made[f"{model} by columns"] = Job(config, directory, steps=3, embedding="column_sharded")
        for mode, embedding in (("dense", "row_sharded"), ("dense", "column_sharded"), ("batch", "row_sharded")):
            penalties = [*CLIPPED, f"model.embedding_regularizer_mode={mode}"]
            config = compose_job("train", ["model=stem", *words, f"dataset.batch_size={BATCH_SIZE}", *penalties])
            config["model"]["net"] = small(config["model"]["net"])
            steps = STEPS if mode == "dense" else 10
            made[f"stem {embedding}, penalty {mode}"] = Job(config, directory, steps, embedding=embedding, clip=True)
    return made


@pytest.mark.ddp
def test_two_ranks_with_divided_tables_train_like_one(jobs: dict[str, Job]) -> None:
    differences = largest_differences(jobs)
    print("\n".join(f"{value:.1e}  {name}" for name, value in differences.items()))
    assert len(differences) == 2 * len(MODELS) + 3
    assert {name: value for name, value in differences.items() if value > 1e-6} == {}

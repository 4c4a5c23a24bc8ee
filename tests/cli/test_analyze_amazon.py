"""The commands from Amazon's files to the correlation that a target attention has learnt per category."""

import gzip
import json
from pathlib import Path

import numpy as np
import pytest

from tests.cli.commands import Workspace
from tests.cli.sequences import FAST, NO_STOP

USERS, ITEMS = 60, 36
LEAVES = ("Men's Care", "Combs", "Soap")
AMAZON = ["dataset=beauty", "dataset.raw_dir=amazon", "dataset.history_max=6", "dataset.eval_negatives=12"]
TINY = ["model.net.embedding_dim=4", "model.net.category_dim=4", "model.net.hidden_units=[8]"]
TIN = ["model=tin", *AMAZON, *FAST, *TINY, *NO_STOP, "dataset.evaluation.topk=[5,10]", "trainer.max_epochs=1"]


def write_amazon(folder: Path) -> None:
    """Write reviews in which every user stays within one leaf category; half of the metadata are Python literals."""
    rng = np.random.default_rng(0)
    reviews, metas = [], []
    for user in range(USERS):
        mine = rng.permutation(ITEMS // 3)[: rng.integers(5, 10)] + (ITEMS // 3) * (user % 3)
        for position, item in enumerate(mine):
            reviews.append({"reviewerID": f"A{user}", "asin": f"B{item:03d}", "unixReviewTime": 86_400 * position})
    for item in range(ITEMS):
        paths = [["Beauty", "All"], ["Beauty", "More", LEAVES[3 * item // ITEMS]]]
        metas.append({"asin": f"B{item:03d}", "title": 'A "title"\'s', "categories": paths})
    texts = {
        "reviews_Beauty_5.json.gz": [json.dumps(review) for review in reviews],
        "meta_Beauty.json.gz": [(repr, json.dumps)[number % 2](meta) for number, meta in enumerate(metas)],
    }
    folder.mkdir()
    for name, lines in texts.items():
        with gzip.open(folder / name, "wt", encoding="utf-8") as file:
            file.write("\n".join(lines) + "\n")


@pytest.fixture(scope="session")
def amazon(workspace: Workspace) -> Workspace:
    write_amazon(workspace.directory / "amazon")
    return workspace


def test_target_attention_and_correlation_use_the_leaf_categories(amazon: Workspace) -> None:
    amazon.run("train", *TIN, "hydra.run.dir=amazon_tin")
    amazon.run(
        *("analyze", "analysis=correlation", "run=amazon_tin", "output=amazon_found"),
        *("analysis.positions=4", "analysis.top_targets=5"),
    )
    found = json.loads((amazon.directory / "amazon_found" / "results.json").read_text())
    numbers = found["sections"]["correlation"]["numbers"]
    assert sorted(numbers["targets"]) == sorted(LEAVES)
    assert all(result["own_row"]["is_largest"] for result in numbers["targets"].values())
    assert [learnt["how"] for learnt in numbers["learnt"]] == ["tin, paper"] * 3  # read off, not probed
    assert sorted(learnt["target"] for learnt in numbers["learnt"]) == sorted(LEAVES)
    assert amazon.record("amazon_tin")["dataset_manifest"]["categories"] == 3


def test_a_missing_metadata_file_is_named_in_one_sentence(amazon: Workspace) -> None:
    known = set((amazon.directory / "data").glob("prepared/beauty-*"))
    done = amazon.run("prepare", *AMAZON, "dataset.meta_file=meta_Soap.json.gz", "dataset.eval_seed=5", status=2)
    assert "dataset.meta_file: " in done.stderr
    assert "amazon/meta_Soap.json.gz" in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    assert set((amazon.directory / "data").glob("prepared/beauty-*")) == known

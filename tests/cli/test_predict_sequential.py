"""The best items of users by the command line, from a checkpoint alone."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from stemlab.config.compose import compose
from stemlab.predict import predict
from tests.cli.conftest import Workplace
from tests.cli.sequences import ITEMS, SASREC, USERS

TOPK = 5


@pytest.fixture(scope="module")
def full(sequences: Workplace, here: Callable[..., float]) -> Path:
    """A finished run of SASRec, measured against the full catalogue."""
    here("for_lists", *SASREC, "trainer.max_epochs=3", "dataset.evaluation.candidates=full")
    return sequences.directory / "for_lists"


def rows(sequences: Workplace, *names: str) -> pd.DataFrame:
    parts = [pd.read_csv(sequences.directory / "folder" / f"{name}.csv", sep="\t", dtype=str) for name in names]
    table = pd.concat(parts)[["user_id", "item_id", "time"]]
    return table.set_axis(["user", "item", "time"], axis=1)


def test_every_user_gets_the_best_unseen_items(full: Path, sequences: Workplace) -> None:
    words = ["output=top.parquet", f"topk={TOPK}", "vectors=users.npz", "index=hnsw", "index_path=items.faiss"]
    done = sequences.run("predict", f"ckpt={full / 'checkpoints' / 'best.ckpt'}", *words)
    assert done.stdout.endswith(  # matplotlib, which torchmetrics imports, greets a new home directory
        f"{TOPK * USERS} items for {USERS} users written to top.parquet, seen items excluded; vectors in users.npz; "
        f"hnsw index of {ITEMS} items in items.faiss.\n"
    )
    table = pd.read_parquet(sequences.directory / "top.parquet")
    assert table["user"].tolist() == [str(user) for user in range(1, USERS + 1) for _ in range(TOPK)]
    seen = rows(sequences, "train", "dev", "test")
    assert not set(zip(table["user"], table["item"], strict=True)) & set(zip(seen["user"], seen["item"], strict=True))
    assert np.load(sequences.directory / "users.npz")["vector"].shape == (USERS, 1, 8)


def test_ranks_of_the_lists_are_those_of_the_evaluation(full: Path, sequences: Workplace) -> None:
    """Histories without the test row give lists in which that row's item stands where the evaluation found it."""
    rows(sequences, "dev", "train").to_csv(sequences.directory / "before.csv", index=False)
    words = [f"input={sequences.directory / 'before.csv'}", f"output={sequences.directory / 'all.csv'}"]
    told = predict(compose("predict", [f"ckpt={full / 'checkpoints' / 'best.ckpt'}", *words, f"topk={ITEMS}"]))
    assert f"{USERS} users with fewer than {ITEMS} items left" in told
    lists = pd.read_csv(sequences.directory / "all.csv", dtype={"user": str, "item": str})
    target = rows(sequences, "test").merge(lists, on=["user", "item"])
    metrics = sequences.record("for_lists")["metrics"]
    assert len(target) == USERS
    for k in (5, 10):
        hit = target["rank"] <= k
        assert hit.mean() == pytest.approx(metrics[f"test/hr@{k}"])
        assert (hit / np.log2(target["rank"] + 1)).mean() == pytest.approx(metrics[f"test/ndcg@{k}"])
    assert (1 / target["rank"]).mean() == pytest.approx(metrics["test/mrr"])


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["topk=0"], "topk=0 (set on the command line) must be"),
        (["on_unknown=ignore"], "on_unknown='ignore' (set on the command line) must be"),
        (["index=faiss"], "index='faiss' (set on the command line) must be"),
        (["index=exact"], "index=exact has no file to go to: set index_path=items.faiss."),
        (["input=nobody.csv"], "nobody.csv, row 1: '9999' is no user of dataset 'rechorus'"),
        (["trainer.devices=2", "trainer=ddp_cpu"], "predict runs in one process"),
    ],
)
def test_mistakes_are_one_sentence(words: list[str], sentence: str, full: Path, sequences: Workplace) -> None:
    (sequences.directory / "nobody.csv").write_text("user\n9999\n")
    best = full / "checkpoints" / "best.ckpt"
    told = sequences.run("predict", f"ckpt={best}", "output=never.csv", *words, status=2).stderr
    assert told.startswith("error: ")
    assert sentence in told
    assert told.count("\n") == 1
    assert not list(sequences.directory.glob("never.csv*"))


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ([], "input is not set: name the rows to score, input=rows.csv"),
        (["input=rows.csv", "topk=3"], "topk=3 is for sequential models, and "),
    ],
)
def test_a_multi_task_model_scores_rows_only(
    words: list[str], sentence: str, trained: Path, workplace: Workplace
) -> None:
    best = trained / "checkpoints" / "best.ckpt"
    told = workplace.run("predict", f"ckpt={best}", "output=never.csv", *words, status=2).stderr
    assert told.startswith(f"error: {sentence}")
    assert told.count("\n") == 1

"""The best items of users by the command line, from a checkpoint alone."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from stemlab.config.compose import compose
from stemlab.predict import predict
from tests.cli.commands import Workspace
from tests.cli.sequences import ITEMS, SASREC, USERS

TOPK = 5


@pytest.fixture(scope="module")
def full(sequences: Workspace, run_training: Callable[..., float]) -> Path:
    """A finished run of SASRec, measured against the full catalogue."""
    run_training("for_lists", *SASREC, "trainer.max_epochs=3", "dataset.evaluation.candidates=full")
    return sequences.directory / "for_lists"


def rows(sequences: Workspace, *names: str) -> pd.DataFrame:
    parts = [pd.read_csv(sequences.directory / "folder" / f"{name}.csv", sep="\t", dtype=str) for name in names]
    table = pd.concat(parts)[["user_id", "item_id", "time"]]
    return table.set_axis(["user", "item", "time"], axis=1)


def test_every_user_gets_the_best_unseen_items(full: Path, sequences: Workspace) -> None:
    words = ["output=top.parquet", f"topk={TOPK}", "vectors=users.npz", "index=hnsw", "index_path=items.faiss"]
    done = sequences.run("predict", f"ckpt={full / 'checkpoints' / 'best.ckpt'}", *words)
    last = done.stdout.splitlines()[-1]  # matplotlib, which torchmetrics imports, greets a new home directory
    hints = (
        f"{TOPK * USERS} items",
        f"{USERS} users",
        "top.parquet",
        "users.npz",
        "hnsw",
        f"{ITEMS} items",
        "items.faiss",
    )
    assert [hint for hint in hints if hint not in last] == []
    table = pd.read_parquet(sequences.directory / "top.parquet")
    assert table["user"].tolist() == [str(user) for user in range(1, USERS + 1) for _ in range(TOPK)]
    seen = rows(sequences, "train", "dev", "test")
    assert not set(zip(table["user"], table["item"], strict=True)) & set(zip(seen["user"], seen["item"], strict=True))
    assert np.load(sequences.directory / "users.npz")["vector"].shape == (USERS, 1, 8)


def test_ranks_of_the_lists_are_those_of_the_evaluation(full: Path, sequences: Workspace) -> None:
    """Histories without the test row give lists in which that row's item stands where the evaluation found it."""
    rows(sequences, "dev", "train").to_csv(sequences.directory / "before.csv", index=False)
    words = [f"input={sequences.directory / 'before.csv'}", f"output={sequences.directory / 'all.csv'}"]
    told = predict(compose("predict", [f"ckpt={full / 'checkpoints' / 'best.ckpt'}", *words, f"topk={ITEMS}"]))
    assert f"{USERS} users with fewer than {ITEMS} items" in told
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
    ("words", "hint"),
    [
        (["topk=0"], "topk=0"),
        (["on_unknown=ignore"], "on_unknown='ignore'"),
        (["index=faiss"], "index='faiss'"),
        (["index=exact"], "index_path="),
        (["input=nobody.csv"], "nobody.csv, row 1: '9999'"),
        (["trainer.devices=2", "trainer=ddp_cpu"], "one process"),
    ],
)
def test_mistakes_are_one_sentence(words: list[str], hint: str, full: Path, sequences: Workspace) -> None:
    (sequences.directory / "nobody.csv").write_text("user\n9999\n")
    best = full / "checkpoints" / "best.ckpt"
    told = sequences.run("predict", f"ckpt={best}", "output=never.csv", *words, status=2).stderr
    assert told.startswith("error: ")
    assert hint in told
    assert told.count("\n") == 1
    assert not list(sequences.directory.glob("never.csv*"))


@pytest.mark.parametrize(
    ("words", "hint"),
    [
        ([], "input "),
        (["input=rows.csv", "topk=3"], "topk=3 "),
    ],
)
def test_a_multi_task_model_scores_rows_only(words: list[str], hint: str, trained: Path, workspace: Workspace) -> None:
    best = trained / "checkpoints" / "best.ckpt"
    told = workspace.run("predict", f"ckpt={best}", "output=never.csv", *words, status=2).stderr
    assert told.startswith(f"error: {hint}")
    assert told.count("\n") == 1

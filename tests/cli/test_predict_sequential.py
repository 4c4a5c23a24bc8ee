"""``stemlab.predict`` of a sequential model: the highest scored items of each user."""

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
    """A finished run of SASRec, evaluated on the full catalogue."""
    run_training("for_lists", *SASREC, "trainer.max_epochs=3", "dataset.evaluation.candidates=full")
    return sequences.directory / "for_lists"


def rows(sequences: Workspace, *names: str) -> pd.DataFrame:
    parts = [pd.read_csv(sequences.directory / "folder" / f"{name}.csv", sep="\t", dtype=str) for name in names]
    table = pd.concat(parts)[["user_id", "item_id", "time"]]
    return table.set_axis(["user", "item", "time"], axis=1)


def test_every_user_gets_the_highest_scored_unseen_items(full: Path, sequences: Workspace) -> None:
    overrides = ["output=top.parquet", f"topk={TOPK}", "vectors=users.npz", "index=hnsw", "index_path=items.faiss"]
    done = sequences.run("predict", f"ckpt={full / 'checkpoints' / 'best.ckpt'}", *overrides)
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


def test_ranks_in_the_lists_equal_those_of_the_evaluation(full: Path, sequences: Workspace) -> None:
    """With histories before the test item, that item has the rank that the evaluation found."""
    rows(sequences, "dev", "train").to_csv(sequences.directory / "before.csv", index=False)
    overrides = [f"input={sequences.directory / 'before.csv'}", f"output={sequences.directory / 'all.csv'}"]
    result = predict(compose("predict", [f"ckpt={full / 'checkpoints' / 'best.ckpt'}", *overrides, f"topk={ITEMS}"]))
    assert f"{USERS} users with fewer than {ITEMS} items" in result
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
    ("overrides", "hint"),
    [
        (["topk=0"], "topk=0"),
        (["on_unknown=ignore"], "on_unknown='ignore'"),
        (["index=faiss"], "index='faiss'"),
        (["index=exact"], "index_path="),
        (["input=nobody.csv"], "nobody.csv, row 1: '9999'"),
        (["trainer.devices=2", "trainer=ddp_cpu"], "one process"),
    ],
)
def test_errors_are_one_sentence(overrides: list[str], hint: str, full: Path, sequences: Workspace) -> None:
    (sequences.directory / "nobody.csv").write_text("user\n9999\n")
    best = full / "checkpoints" / "best.ckpt"
    result = sequences.run("predict", f"ckpt={best}", "output=never.csv", *overrides, status=2).stderr
    assert result.startswith("error: ")
    assert hint in result
    assert result.count("\n") == 1
    assert not list(sequences.directory.glob("never.csv*"))


@pytest.mark.parametrize(
    ("overrides", "hint"),
    [
        ([], "input "),
        (["input=rows.csv", "topk=3"], "topk=3 "),
    ],
)
def test_a_multi_task_model_scores_rows_only(
    overrides: list[str], hint: str, trained: Path, workspace: Workspace
) -> None:
    best = trained / "checkpoints" / "best.ckpt"
    result = workspace.run("predict", f"ckpt={best}", "output=never.csv", *overrides, status=2).stderr
    assert result.startswith(f"error: {hint}")
    assert result.count("\n") == 1

"""Regression labels, conditional labels and weights through the commands train, evaluate, predict and report."""

import re

import pandas as pd
import pytest
import yaml

from tests.cli.commands import Workspace
from tests.data.table.labelled_rows import LABELS, labelled_frame

TABLE = ["dataset=table", "dataset.path=rows.csv", "dataset.config=rows.stemlab.yaml"]
SMALL = [
    "trainer=cpu",
    "optim.lr=0.1",
    "trainer.max_epochs=1",
    "logger=csv",
    "model.net.embedding_dim=4",
    "dataset.batch_size=64",
]


@pytest.fixture(scope="module")
def labelled(tmp_path_factory):
    """A folder with a table of 400 rows and its description."""
    folder = tmp_path_factory.mktemp("labelled")
    labelled_frame().to_csv(folder / "rows.csv", index=False)
    described = {
        "tasks": ["click", "buy", "seconds", "paid"],
        "labels": LABELS,
        "weight": "w",
        "fields": ["user_id", "item_id", "country"],
        "scenario": "country",
        "scenarios": ["es", "fr", "nl"],
        "group": "user_id",
        "min_count": 2,
    }
    (folder / "rows.stemlab.yaml").write_text(yaml.safe_dump(described))
    return Workspace(folder)


def test_train_evaluate_predict_and_report(labelled):
    losses = "model.losses={seconds: {name: huber, delta: 5}, paid: lognormal, click: focal}"
    words = ["model=mmoe", *TABLE, *SMALL, losses, "model.positive_weights={buy: 3}"]
    out = labelled.run("train", *words, "paths.output_dir=labelled_mixed").stdout
    assert "seconds" in out
    record = labelled.record("labelled_mixed")
    metrics = record["metrics"]
    assert {"test/auc/buy", "test/rmse/seconds", "test/xauc/paid/fr", "val/gauc", "test/mae"} <= set(metrics)
    assert not {"test/rmse/click", "test/auc/seconds"} & set(metrics)
    assert metrics["test/auc"] == (metrics["test/auc/click"] + metrics["test/auc/buy"]) / 2
    assert record["dataset_manifest"]["labels"]["paid"]["kind"] == "regression"
    checkpoint = f"ckpt=labelled_mixed/{record['best']['checkpoint']}"
    assert "equal to the run record, bit for bit" in labelled.run("evaluate", checkpoint).stdout
    labelled.run("predict", checkpoint, "input=rows.csv", "output=labelled_scores.csv")
    scores = pd.read_csv(labelled.directory / "labelled_scores.csv")
    assert scores["pred_click"].between(0, 1).all()
    assert scores["pred_seconds"].abs().max() > 1
    assert (scores["pred_paid"] > -1).all()
    table = labelled.run("report", "runs=[labelled_mixed]").stdout
    assert "seconds RMSE" in table
    assert "seconds AUC" not in table


def test_a_dataset_of_regression_tasks_is_selected_by_its_error(labelled):
    only = ["dataset.tasks=[seconds]", "dataset.labels={seconds: {kind: regression}}"]
    words = ["model=shared_bottom", *TABLE, *SMALL, *only]
    out = labelled.run("train", *words, "paths.output_dir=labelled_regression")
    assert "val/rmse selects the best epoch" in out.stdout + out.stderr
    record = labelled.record("labelled_regression")
    chosen = record["config"]["callbacks"]["checkpoint"]
    assert chosen == {"monitor": "val/rmse", "mode": "min", "save_last": True, "per_task": False}
    assert record["best"]["value"] == record["metrics"]["val/rmse"]


@pytest.mark.parametrize(
    ("model", "words", "expected"),
    [
        ("mmoe", ["model.losses={seconds: bce}"], "model.losses.*bce of task 'seconds' is not for regression"),
        ("mmoe", ["model.losses={second: mse}"], "'second', which is no task.*Did you mean 'seconds'"),
        ("mmoe", ["model.positive_weights={paid: 2}"], "model.positive_weights.*'paid'.*no positives"),
        ("mmoe", ["callbacks.checkpoint.monitor=val/auc/seconds"], "metrics of regression tasks are rmse"),
        ("mmoe", ["callbacks.checkpoint.monitor=val/rmse/click"], "metrics of binary tasks are auc"),
        ("mmoe", ["callbacks.paper_selection=true"], "paper_selection.*'seconds' is a regression task"),
        ("aitm", [], "model=aitm transfers .*'seconds' has a regression label"),
        (
            "esmm",
            ["dataset.tasks=[click,buy]", "dataset.labels={buy: {given: click}}"],
            "model=esmm.*conditional label",
        ),
        ("metaheac", ["dataset.tasks=[click]", "dataset.labels={}"], "model=metaheac .*dataset.weight=w"),
    ],
)
def test_what_does_not_fit_is_refused_by_name(labelled, model, words, expected):
    refused = labelled.run("train", f"model={model}", *TABLE, *words, status=2)
    assert re.search(expected, refused.stderr), refused.stderr


def test_a_log_normal_loss_of_negative_labels(labelled):
    rows = labelled_frame().assign(seconds=lambda rows: rows.seconds - 20)
    rows.to_csv(labelled.directory / "negative.csv", index=False)
    words = ["model=shared_bottom", *TABLE, "dataset.path=negative.csv", "dataset.name=labelled_negative"]
    refused = labelled.run(
        "train", *words, "model.losses={seconds: lognormal}", "paths.output_dir=labelled_negative", status=2
    )
    assert "lognormal" in refused.stderr
    assert "mse or huber" in refused.stderr

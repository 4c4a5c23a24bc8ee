"""The commands on a table with multi-valued fields and sequences: train on text, evaluate, predict from Parquet."""

from __future__ import annotations

import json

import pandas as pd
import yaml

from tests.cli.commands import Workspace
from tests.data.table.list_rows import DESCRIBED_LOG, click_log, joined

RUN = "lists_of_values"


def test_train_evaluate_and_predict(workspace: Workspace) -> None:
    folder, log = workspace.directory, click_log(300)
    joined(log).to_csv(folder / "lists.csv", index=False)
    log.drop(columns=["click", "buy"]).to_parquet(folder / "lists.parquet")
    (folder / "lists.yaml").write_text(yaml.safe_dump(DESCRIBED_LOG), encoding="utf-8")
    data = ["dataset=table", "dataset.path=lists.csv", "dataset.config=lists.yaml"]
    tables = ["optim.tables=sparse_adam", "optim.lr=0.01"]
    workspace.run("train", "model=dcnv2", *data, *tables, "trainer.max_epochs=1", f"hydra.run.dir={RUN}")
    record = json.loads((folder / RUN / "record.json").read_text())
    assert record["status"] == "finished"
    checkpoint = f"ckpt={RUN}/checkpoints/best.ckpt"
    assert "bit for bit" in workspace.run("evaluate", checkpoint).stdout
    printed = workspace.run("predict", checkpoint, "input=lists.parquet", "output=lists_scored.parquet").stdout
    assert "300 rows" in printed
    kept = [("genres", 3), ("tags", 4), ("hist_items", 5), ("hist_categories", 5), ("hist_items", 2)]
    values = sum(int(log[name].map(len).clip(upper=length).sum()) for name, length in kept)
    assert f" of {300 * 3 + values:,} ids" in printed
    assert pd.read_parquet(folder / "lists_scored.parquet")["pred_click"].std() > 0


def test_divided_tables_are_refused(workspace: Workspace) -> None:
    data = ["dataset=table", "dataset.path=rows.csv", "dataset.fields=[a]", "dataset.tasks=[y]"]
    lists = ["+dataset.multivalued.b.max_length=3"]
    done = workspace.run(
        "train", "model=dcnv2", *data, *lists, "trainer=ddp_cpu", "trainer.embedding=row_sharded", status=2
    )
    assert "dataset.multivalued" in done.stderr
    assert "replicated" in done.stderr

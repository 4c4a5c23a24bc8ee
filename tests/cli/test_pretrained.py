"""Pretrained vectors from the file to the evaluation: only a new training reads the file."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch
import yaml

from tests.cli.commands import Workspace

WIDTH = 6
TABLE = ["model=shared_bottom", "dataset=table", "dataset.path=rows.csv", "dataset.config=rows.yaml"]
SMALL = ["trainer=cpu", "dataset.batch_size=100", "optim.lr=0.1", "logger=csv", "model.net.embedding_dim=4"]
SETTING = f"model.pretrained={{item: {{file: vectors.npy, ids: ids.npy, width: {WIDTH}}}}}"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder with 300 rows of 20 items, and vectors of 15 of them and of one other."""
    made = tmp_path_factory.mktemp("pretrained")
    rng = np.random.default_rng(0)
    item = rng.integers(0, 20, 300)
    rows = {
        "user": rng.integers(0, 9, 300),
        "item": [f"i{one}" for one in item],
        "click": item % 2,
        "buy": item % 3 > 1,
    }
    pd.DataFrame({**rows, "buy": rows["buy"].astype(int)}).to_csv(made / "rows.csv", index=False)
    described = {"fields": ["user", "item"], "tasks": ["click", "buy"], "min_count": 1}
    (made / "rows.yaml").write_text(yaml.safe_dump(described))
    np.save(made / "ids.npy", np.array([*(f"i{one}" for one in range(15)), "other"]))
    np.save(made / "vectors.npy", rng.normal(size=(16, WIDTH)).astype(np.float32))
    return made


def vectors(path, folder):
    """Return the stored vectors of the items of the file."""
    saved = torch.load(path, weights_only=True)["state_dict"]["net.embedding.tables.1.weight"]
    tokens = pd.read_parquet(next((folder / "data/prepared").glob("*/vocabulary/item.parquet")))["token"].tolist()
    return saved, saved[[tokens.index(f"i{one}") + 1 for one in range(15)]]


def test_vectors_are_reported_kept_and_not_read_again(folder):
    work = Workspace(folder)
    words = [*TABLE, *SMALL, SETTING]
    out = work.run("train", *words, "trainer.max_epochs=1", "paths.output_dir=first").stdout
    assert "item 15 of 20 ids" in out
    report = {"ids": 20, "ids_with_vector": 15, "vectors_of_other_ids": 1}
    given = np.load(folder / "vectors.npy")[:15]
    assert work.record("first")["pretrained"]["item"].items() >= report.items()
    table, known = vectors(folder / "first/checkpoints/best.ckpt", folder)
    np.testing.assert_array_equal(known, given)  # frozen
    assert table.shape == (22, WIDTH)
    assert (table != 0).any(dim=1).sum() == 15
    for name in ("vectors.npy", "ids.npy"):
        (folder / name).unlink()
    last, best = "ckpt_path=first/checkpoints/last.ckpt", "ckpt=first/checkpoints/best.ckpt"
    work.run("train", *words, "trainer.max_epochs=2", "paths.output_dir=second", last)
    torch.testing.assert_close(vectors(folder / "second/checkpoints/best.ckpt", folder)[0], table, rtol=0, atol=0)
    assert "bit for bit" in work.run("evaluate", best).stdout

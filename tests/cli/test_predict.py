"""``stemlab.predict`` of a multi-task model: raw rows in, the same rows with scores out."""

import hashlib
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from stemlab.config.compose import compose
from stemlab.data.prepare.split import SplitRule, random_codes
from stemlab.data.sample.tiktok import TIKTOK_COLUMNS
from stemlab.data.table import file
from stemlab.errors import StemlabError
from stemlab.inference import table_io
from stemlab.metrics import auc
from stemlab.predict import predict
from tests.cli.commands import Workspace


@pytest.fixture(scope="module")
def raw(trained: Path) -> pd.DataFrame:
    """The raw rows of the sample, all text."""
    (file,) = json.loads((trained / "record.json").read_text())["dataset_manifest"]["raw"]
    files = (trained.parent / "data" / "sample").glob(f"*/{file['name']}")  # other tests may have other samples
    (path,) = [one for one in files if hashlib.sha256(one.read_bytes()).hexdigest() == file["sha256"]]
    return pd.read_csv(path, sep="\t", header=None, names=list(TIKTOK_COLUMNS), dtype=str)


def score(trained: Path, source: Path, target: Path, *overrides: str) -> str:
    checkpoint = trained / "checkpoints" / "best.ckpt"
    return predict(compose("predict", [f"ckpt={checkpoint}", f"input={source}", f"output={target}", *overrides]))


def test_scores_are_those_of_the_evaluation(trained: Path, raw: pd.DataFrame, workspace: Workspace) -> None:
    """All raw rows are scored; the AUC of the test rows is the recorded one."""
    raw.to_csv(workspace.directory / "rows.csv", index=False)
    best = trained / "checkpoints" / "best.ckpt"
    done = workspace.run_process("predict", f"ckpt={best}", "input=rows.csv", "output=scores.parquet")
    scored = pd.read_parquet(workspace.directory / "scores.parquet")
    pd.testing.assert_frame_equal(scored[list(TIKTOK_COLUMNS)], raw, check_dtype=False)
    assert list(scored)[len(TIKTOK_COLUMNS) :] == ["pred_finish", "pred_like"]
    test = scored[random_codes(len(raw), SplitRule(rule="random", test_size=0.1, valid_size=0.1, seed=42)) == 2]
    record = json.loads((trained / "record.json").read_text())
    assert len(test) == 151
    for task in ("finish", "like"):
        value = auc(test[task].to_numpy().astype(int), test[f"pred_{task}"].to_numpy())
        assert value == record["metrics"][f"test/auc/{task}"]
    assert re.search(r"SAMPLE.* 1,501 .*scores\.parquet", done.stdout)


@pytest.mark.parametrize("kind", ["csv", "tsv", "txt", "parquet"])
def test_every_kind_of_file_gives_the_same_scores(kind: str, trained: Path, raw: pd.DataFrame, tmp_path: Path) -> None:
    source, some = tmp_path / f"rows.{kind}", raw.head(50)
    if kind == "parquet":
        some.astype(np.int64).to_parquet(source)
    else:
        some.to_csv(source, index=False, sep="," if kind == "csv" else "\t", header=kind != "txt")
    score(trained, source, tmp_path / "scores.csv")
    some.to_csv(tmp_path / "twin.csv", index=False)
    score(trained, tmp_path / "twin.csv", tmp_path / "twin_scores.csv")
    assert (tmp_path / "scores.csv").read_text() == (tmp_path / "twin_scores.csv").read_text()


def test_columns_are_kept_as_they_are(trained: Path, raw: pd.DataFrame, tmp_path: Path) -> None:
    """Extra columns, leading zeros, quotes, empty cells: text in, the same text out."""
    some = raw.head(3).assign(note=['a, "b"', "", "007"])
    some.to_csv(tmp_path / "rows.csv", index=False)
    score(trained, tmp_path / "rows.csv", tmp_path / "scores.csv")
    back = pd.read_csv(tmp_path / "scores.csv", dtype=str, keep_default_na=False)
    pd.testing.assert_frame_equal(back[list(some)], some.fillna(""), check_dtype=False)


def test_unseen_ids_are_out_of_vocabulary_and_counted(trained: Path, raw: pd.DataFrame, tmp_path: Path) -> None:
    some = raw.head(4).copy()
    some["uid"] = ["999999999", "888888888", "abc", ""]
    some.to_csv(tmp_path / "rows.csv", index=False)
    result = score(trained, tmp_path / "rows.csv", tmp_path / "scores.csv")
    assert "32 ids" in result
    assert "out-of-vocabulary" in result
    assert "uid 4" in result
    unseen = pd.read_csv(tmp_path / "scores.csv")
    assert unseen[["pred_finish", "pred_like"]].notna().all().all()


@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_ids_written_as_floats_give_the_same_scores(
    kind: str, trained: Path, raw: pd.DataFrame, tmp_path: Path
) -> None:
    some = raw.head(50)
    some.to_csv(tmp_path / "integers.csv", index=False)
    score(trained, tmp_path / "integers.csv", tmp_path / "expected.parquet")
    floats = some.astype(np.float64)
    if kind == "csv":
        floats.to_csv(tmp_path / "floats.csv", index=False)
    else:
        floats.to_parquet(tmp_path / "floats.parquet")
    score(trained, tmp_path / f"floats.{kind}", tmp_path / "scores.parquet")
    predictions = ["pred_finish", "pred_like"]
    expected, found = (pd.read_parquet(tmp_path / f"{name}.parquet")[predictions] for name in ("expected", "scores"))
    pd.testing.assert_frame_equal(found, expected)


def test_fields_whose_values_are_all_unseen_are_named(trained: Path, raw: pd.DataFrame, tmp_path: Path) -> None:
    raw.head(20).assign(item_id="item-1").to_csv(tmp_path / "rows.csv", index=False)
    said = score(trained, tmp_path / "rows.csv", tmp_path / "scores.csv")
    assert re.search("no value of item_id .*how it is written", said)


def test_rows_read_in_pieces_give_one_file(
    trained: Path, raw: pd.DataFrame, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    some = raw.head(400)
    some.to_csv(tmp_path / "rows.csv", index=False)
    some.astype(np.int64).to_parquet(tmp_path / "rows.parquet")
    score(trained, tmp_path / "rows.csv", tmp_path / "whole.parquet")
    monkeypatch.setattr(file, "TABLE_BLOCK_BYTES", 2000)
    monkeypatch.setattr(table_io, "_PARQUET_BATCH_ROWS", 37)
    assert len(list(table_io.TableReader(tmp_path / "rows.csv", ()).chunks())) > 5
    score(trained, tmp_path / "rows.csv", tmp_path / "pieces.parquet", "batch_size=7")
    score(trained, tmp_path / "rows.parquet", tmp_path / "typed.parquet")
    whole, pieces, typed = (pd.read_parquet(tmp_path / f"{n}.parquet") for n in ("whole", "pieces", "typed"))
    pd.testing.assert_frame_equal(whole, pieces, rtol=1e-6)
    pd.testing.assert_frame_equal(whole, typed.astype(dict.fromkeys(TIKTOK_COLUMNS, str)), rtol=1e-6, check_dtype=False)


@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_no_rows_give_an_empty_file(kind: str, trained: Path, raw: pd.DataFrame, tmp_path: Path) -> None:
    none = raw.head(0)
    none.to_csv(tmp_path / "rows.csv", index=False)
    none.to_parquet(tmp_path / "rows.parquet")
    result = score(trained, tmp_path / f"rows.{kind}", tmp_path / "scores.parquet")
    assert "0 rows" in result
    assert pq.read_table(tmp_path / "scores.parquet").column_names == [*TIKTOK_COLUMNS, "pred_finish", "pred_like"]


def broken(raw: pd.DataFrame, folder: Path) -> None:
    some = raw.head(3)
    some.drop(columns="item_id").to_csv(folder / "no_item.csv", index=False)
    some.assign(pred_like="1").to_csv(folder / "scored.csv", index=False)
    (folder / "empty.csv").write_text("")
    (folder / "ragged.csv").write_text(some.to_csv(index=False) + "1,2\n")
    (folder / "rows.xlsx").write_text("")
    some.to_csv(folder / "rows.csv", index=False)
    (folder / "twice.csv").write_text("uid,uid\n1,2\n")
    (folder / "fake.parquet").write_text("no parquet")


@pytest.mark.parametrize(
    ("source", "target", "hint"),
    [
        ("no_item.csv", "s.csv", "column 'item_id'"),
        ("scored.csv", "s.csv", "column 'pred_like'"),
        ("empty.csv", "s.csv", "empty.*header"),
        ("ragged.csv", "s.csv", "ragged.csv, line 5: 2 columns instead of 12"),
        ("rows.xlsx", "s.csv", r"rows.xlsx.*\.csv, \.tsv, \.txt or \.parquet"),
        ("nowhere.csv", "s.csv", "nowhere.csv"),
        ("twice.csv", "s.csv", "columns 'uid'"),
        ("fake.parquet", "s.csv", "fake.parquet.*read"),
        ("rows.csv", "s.json", r"s\.json.*\.parquet or \.csv"),
        ("rows.csv", "rows.csv", "is the input"),
    ],
)
def test_errors_leave_no_file(
    source: str, target: str, hint: str, trained: Path, raw: pd.DataFrame, tmp_path: Path
) -> None:
    broken(raw, tmp_path)
    before = {path.name for path in tmp_path.iterdir()}
    with pytest.raises(StemlabError, match=hint):
        score(trained, tmp_path / source, tmp_path / target)
    assert {path.name for path in tmp_path.iterdir()} == before


def test_bf16_run_is_scored_in_bf16(trained: Path, raw: pd.DataFrame, tmp_path: Path) -> None:
    raw.head(64).to_csv(tmp_path / "rows.csv", index=False)
    score(trained, tmp_path / "rows.csv", tmp_path / "full.parquet")
    score(trained, tmp_path / "rows.csv", tmp_path / "low.parquet", "trainer.precision=bf16-mixed")
    full, low = (pd.read_parquet(tmp_path / f"{name}.parquet")["pred_like"] for name in ("full", "low"))
    assert low.dtype == full.dtype == np.float32
    assert not low.equals(full)
    assert np.abs(low - full).max() < 0.02


def test_a_failed_write_leaves_no_file(tmp_path: Path) -> None:
    def fail(table: Any) -> None:
        with table_io.table_writer(tmp_path / "out.parquet") as write:
            write(table)
            raise RuntimeError("on the way")

    with pytest.raises(RuntimeError, match="on the way"):
        fail(pa.table({"a": torch.arange(3).numpy()}))
    assert list(tmp_path.iterdir()) == []

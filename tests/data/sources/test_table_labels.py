"""User tables with regression labels, conditional labels and sample weights."""

import numpy as np
import pytest
import torch
import yaml

from stemlab.config.compose import CommandLine, compose
from stemlab.config.sweep import check_command_line
from stemlab.data.spec import DatasetSpec, Label
from stemlab.errors import StemlabError
from tests.data.table.labelled_rows import LABELS, labelled_frame, labelled_table
from tests.data.table.rows import frame, save, table


def batches_of(module, split):
    return list(module.eval_loader(split))


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_values_masks_and_weights_of_every_row(tmp_path, suffix):
    rows = labelled_frame()
    module = labelled_table(tmp_path, save(rows, tmp_path / f"rows.{suffix}"))
    module.prepare()
    spec = module.spec
    assert spec.labels == (
        Label("buy", given="click"),
        Label("seconds", "regression"),
        Label("paid", "regression", "buy"),
    )
    assert (spec.weight, spec.regression_tasks) == ("w", ("seconds", "paid"))
    assert spec.conditional_tasks == {"buy": "click", "paid": "buy"}
    assert DatasetSpec.from_dict(spec.to_dict()) == spec
    found = {}
    for split in ("train", "valid", "test"):
        for batch in batches_of(module, split):
            assert (batch.values_BV.dtype, batch.mask_BT.dtype, batch.weight_B.dtype) == (
                torch.float32,
                torch.int8,
                torch.float32,
            )
            columns = (batch.dense_BN[:, 0], batch.labels_BT, batch.values_BV, batch.mask_BT, batch.weight_B)
            for row, *rest in zip(*(column.tolist() for column in columns), strict=True):
                found[int(row)] = rest
    for row, entry in rows.iterrows():
        click, bought = int(entry.click), bool(entry.click and entry.buy == 1)
        labels, values, mask, weight = found[row]
        assert labels == [click, int(bought), 0, 0]
        assert mask == [1, click, 1, int(bought)]
        assert values == [np.float32(entry.seconds), np.float32(entry.paid) if bought else 0]
        assert weight == np.float32(entry.w)


def test_manifest_describes_the_labels(tmp_path):
    rows = labelled_frame()
    module = labelled_table(tmp_path, save(rows, tmp_path / "rows.csv"))
    module.prepare()
    labels, weight = module.manifest["labels"], module.manifest["weight"]
    bought = rows[(rows.click == 1) & (rows.buy == 1)]
    assert sum(labels["buy"]["samples"].values()) == rows.click.sum()
    assert sum(labels["paid"]["samples"].values()) == len(bought)
    assert max(labels["paid"]["max"].values()) == pytest.approx(bought.paid.max(), rel=1e-6)
    mean = sum(labels["seconds"]["mean"][split] * module.manifest["rows"][split] for split in labels["seconds"]["mean"])
    assert mean / len(rows) == pytest.approx(rows.seconds.mean(), rel=1e-6)
    assert weight["column"] == "w"
    assert sum(weight["sum"].values()) == pytest.approx(rows.w.sum(), rel=1e-6)


def test_binary_labels_are_stored_as_before(tmp_path):
    path = save(frame(), tmp_path / "rows.csv")
    plain = table(tmp_path, path)
    plain.prepare()
    stated = table(tmp_path, path, labels={"click": {"kind": "binary"}})
    stated.prepare()
    assert "labels" not in plain.spec.to_dict()
    assert "labels" not in plain.manifest
    assert stated.spec == plain.spec
    batch = batches_of(plain, "test")[0]
    assert (batch.values_BV, batch.mask_BT, batch.weight_B) == (None, None, None)


def test_blocks_and_windows_give_the_same_batches(tmp_path):
    path = save(labelled_frame(), tmp_path / "rows.csv")
    first, windowed = (labelled_table(tmp_path, path, reading=way) for way in ("memory", "blocks"))
    for one, other in zip(batches_of(first, "valid"), windowed.val_dataloader(), strict=True):
        for name, tensor in one.tensors().items():
            assert torch.equal(tensor, other.tensors()[name]), name


@pytest.mark.parametrize(
    ("line", "column", "cell", "expected"),
    [
        (30, "seconds", "long", "column 'seconds' is 'long', not a number"),
        (30, "seconds", "", "column 'seconds' is empty"),
        (30, "w", "-1", "column 'w' is '-1', not a weight"),
        (30, "w", "", "column 'w' is empty, not a weight"),
        (0, "buy", "", "column 'buy' is empty.*where click is 1"),
        (0, "buy", "yes", "column 'buy' is 'yes', neither 0 nor 1"),
    ],
)
def test_bad_cells_are_reported_with_line_and_column(tmp_path, line, column, cell, expected):
    rows = labelled_frame()
    row = line - 2 if line else int(np.flatnonzero(rows.click == 1)[0])
    rows = rows.astype(object)
    rows.loc[row, column] = cell
    path = save(rows, tmp_path / "rows.csv")
    with pytest.raises(StemlabError, match=rf"rows\.csv, line {row + 2}: {expected}"):
        labelled_table(tmp_path, path).prepare()
    skipping = labelled_table(tmp_path, path, on_bad_row="skip")
    skipping.prepare()
    assert skipping.manifest["skipped_rows"] == 1


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda rows: rows.assign(w=0.0), "dataset.weight=w is 0 in all rows"),
        (lambda rows: rows.assign(seconds=3.5), "label 'seconds' is 3.5 in all"),
        (
            lambda rows: rows.assign(buy=rows.buy.where(rows.click == 0, 1), paid=rows.price.fillna(1)),
            "label 'buy' is 1 in all .* click = 1",
        ),
    ],
)
def test_labels_that_cannot_be_learned(tmp_path, change, expected):
    with pytest.raises(StemlabError, match=expected):
        labelled_table(tmp_path, save(change(labelled_frame()), tmp_path / "rows.csv")).prepare()


@pytest.mark.parametrize(
    ("labels", "expected"),
    [
        ({"bye": {"given": "click"}}, "'bye'.*dataset.tasks.*Did you mean 'buy'"),
        ({"buy": {"given": "seconds"}, "seconds": {"kind": "regression"}}, "given=seconds is a regression label"),
        ({"buy": {"given": "click"}, "click": {"given": "buy"}}, "leads back to 'buy'"),
        ({"buy": {"given": "clock"}}, "labels.buy.given has 'clock'.*Did you mean 'click'"),
        ({**LABELS, "buy": {"given": "item_id"}}, "line .*column 'item_id'.*neither 0 nor 1"),
    ],
)
def test_wrong_conditions(tmp_path, labels, expected):
    with pytest.raises(StemlabError, match=expected):
        labelled_table(tmp_path, save(labelled_frame(), tmp_path / "rows.csv"), labels=labels).prepare()


def test_a_condition_need_not_be_a_task(tmp_path):
    rows = labelled_frame()
    path = save(rows, tmp_path / "rows.csv")
    module = labelled_table(tmp_path, path, tasks=["buy"], labels={"buy": {"given": "click"}}, weight=None)
    module.prepare()
    assert module.spec.tasks == ("buy",)
    assert sum(module.manifest["labels"]["buy"]["samples"].values()) == rows.click.sum()


def test_description_and_command_line(tmp_path):
    text = {"tasks": ["click", "buy", "seconds", "paid"], "fields": ["u"], "labels": LABELS, "weight": "w"}
    path = tmp_path / "rows.stemlab.yaml"
    path.write_text(yaml.safe_dump(text))
    words = ["model=mmoe", "dataset=table", "dataset.path=x.csv", f"dataset.config={path}"]
    dataset = compose("train", words)["dataset"]
    assert (dataset["labels"], dataset["weight"]) == (LABELS, "w")
    path.write_text(yaml.safe_dump({**text, "labels": {"seconds": {"kind": "rank"}}}))
    with pytest.raises(StemlabError, match=r"dataset.labels.seconds.kind.*binary, regression"):
        check_command_line(CommandLine("train", tuple(words)))

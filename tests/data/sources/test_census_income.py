"""Census-Income: official columns, labels, published split, refusals."""

import gzip
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from stemlab.config.instantiate import instantiate
from stemlab.data.prepare.split import SPLITS
from stemlab.data.sources.census_income import CENSUS_COLUMNS, CENSUS_FIELDS
from stemlab.data.store import ColumnStore
from stemlab.errors import StemlabError
from tests.data.tiktok_rows import settings
from tests.tiny_datasets import census_lines

TASKS = ["income", "never_married", "education"]
WITHOUT_LABELS = [name for name in CENSUS_FIELDS if name not in ("marital_status", "education_level")]


def census(folder: Path, **changed):
    paths = {"raw_dir": str(folder / "raw"), "data_dir": str(folder)}
    return instantiate(settings("census_income", **{**paths, **changed}), key="dataset")


def write(folder: Path, train=None, test=None):
    raw = folder / "raw"
    raw.mkdir(exist_ok=True)
    for name, lines in (("data", train), ("test", test)):
        if lines is not None:
            (raw / f"census-income.{name}").write_text("".join(f"{line}\n" for line in lines))


def test_published_split_of_both_files(tmp_path):
    write(tmp_path, census_lines(60, seed=1), census_lines(31, seed=2))
    module = census(tmp_path, tasks=TASKS, fields=WITHOUT_LABELS)
    module.prepare()
    assert module.manifest["rows"] == {"train": 60, "valid": 15, "test": 16}
    assert module.spec.tasks == tuple(TASKS)


def test_labels_and_missing_cells(tmp_path):
    lines = census_lines(40, seed=3)
    cells = [line.split(", ") for line in lines]
    write(tmp_path, lines, census_lines(10, seed=4))
    module = census(tmp_path, tasks=TASKS, fields=WITHOUT_LABELS)
    labels = ColumnStore(module.prepare() / "train.arrow").labels
    assert labels[:, 0].tolist() == [int(row[-1] == "50000+.") for row in cells]
    assert labels[:, 1].tolist() == [int(row[7] == "Never married") for row in cells]
    assert labels[:, 2].tolist() == [int(row[4].startswith(("Bachelors", "Associates"))) for row in cells]
    manifest = module.manifest["positives"]["train"]
    assert manifest["income"] == int(labels[:, 0].sum())


def test_encoded_rows_equal_the_prepared_rows(tmp_path):
    lines = census_lines(40, seed=3)
    write(tmp_path, lines, census_lines(10, seed=4))
    module = census(tmp_path)
    stored = ColumnStore(module.prepare() / "train.arrow")
    columns = list(zip(*(line.split(",") for line in lines), strict=True))
    batch = module.encode(pa.table({name: list(c) for name, c in zip(CENSUS_COLUMNS, columns, strict=True)}))
    assert batch.ids_BF.tolist() == stored.ids.tolist()
    assert np.array_equal(batch.dense_BN, stored.dense)


def test_one_file_is_split_at_random(tmp_path, caplog):
    write(tmp_path, test=census_lines(100, seed=1))
    with caplog.at_level("INFO"):
        module = census(tmp_path)
        module.prepare()
    assert module.manifest["rows"] == {"train": 81, "valid": 9, "test": 10}
    assert "only file" in caplog.text


@pytest.mark.parametrize(
    ("column", "cell", "expected"),
    [
        (0, "old", r"census-income.data, line 2: column 'age' is 'old', not a number"),
        (41, "1", r"line 2: column 'income_class' is '1', neither"),
        (3, "1, 2", r"line 2: 43 columns instead of 42"),
    ],
)
def test_bad_rows(tmp_path, column, cell, expected):
    lines = census_lines(30, seed=1)
    cells = lines[1].split(", ")
    cells[column] = cell
    lines[1] = ", ".join(cells)
    write(tmp_path, lines, census_lines(10, seed=2))
    with pytest.raises(StemlabError, match=expected):
        census(tmp_path).prepare()
    module = census(tmp_path, on_bad_row="skip")
    module.prepare()
    assert (module.manifest["rows"]["train"], module.manifest["skipped_rows"]) == (29, 1)


def test_refusals(tmp_path):
    with pytest.raises(StemlabError, match=r"neither census-income.data nor census-income.test"):
        census(tmp_path).prepare()
    with pytest.raises(StemlabError, match=r"'education_level', from which the label 'education'"):
        census(tmp_path, tasks=["education"])
    with pytest.raises(StemlabError, match="no time column"):
        census(tmp_path, split={"rule": "time"})


def test_the_real_test_file(real_data, tmp_path):
    file = real_data / "census-income" / "census-income.test.gz"
    module = census(tmp_path, raw_dir=str(file.parent), tasks=TASKS, fields=WITHOUT_LABELS)
    module.prepare()
    assert sum(module.manifest["rows"].values()) == 99_762
    totals = {task: sum(split[task] for split in module.manifest["positives"].values()) for task in TASKS}
    with gzip.open(file, "rt") as opened:
        rows = [line.rstrip("\n").split(", ") for line in opened]
    assert totals["income"] == sum(row[41] == "50000+." for row in rows) == 6_186
    assert totals["never_married"] == sum(row[7] == "Never married" for row in rows)
    # the MMoE paper reports |Pearson correlation| 0.2373 of education and never_married, 0.1768 of income and it
    labels = np.concatenate([ColumnStore(module.directory / f"{part}.arrow").labels for part in SPLITS])
    correlation = np.abs(np.corrcoef(labels.T))
    assert correlation[1, 2] == pytest.approx(0.2373, abs=1e-3)
    assert correlation[0, 1] == pytest.approx(0.1768, abs=3e-3)

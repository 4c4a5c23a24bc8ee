"""Preparation of sequences: built once and atomically; invalid input is reported."""

import dataclasses

import numpy as np
import pytest

from stemlab.data.prepare.manifest import read_manifest
from stemlab.data.sequence.prepare import prepare_sequences
from stemlab.data.sequence.writer import read_original_ids
from stemlab.data.spec import SequenceSpec, spec_from_dict
from stemlab.errors import StemlabError
from tests.data.sequence.toys import Toy, leave_two_out, raw_of


def prepare(raw, root, files=(), **more):
    calls = []

    def read(advance):
        calls.append(1)
        advance(sum(path.stat().st_size for path in files))
        return raw

    given = {"name": "toy", "reader": "toy/1", "settings": {}, **more}
    return prepare_sequences(read, files=list(files), root=root, **given), len(calls)


@pytest.fixture
def raw():
    return raw_of(leave_two_out(10, 20), 10, 20, skipped=3, facts={"source": "a toy"})


def test_is_built_once(tmp_path, raw):
    first, built = prepare(raw, tmp_path / "prepared")
    again, rebuilt = prepare(raw, tmp_path / "prepared")
    assert (first, built, rebuilt) == (again, 1, 0)
    assert sorted(path.name for path in first.rglob("*") if path.is_file()) == [
        *("item.parquet", "log.arrow", "manifest.json", "test.arrow", "train.arrow"),
        *("user.parquet", "users.arrow", "valid.arrow"),
    ]


def test_manifest_entries(tmp_path, raw):
    file = tmp_path / "rows.txt"
    file.write_text("abc")
    directory, _ = prepare(raw, tmp_path / "prepared", [file], settings={"eval_negatives": 99}, sample=True)
    manifest = read_manifest(directory)
    train = len(raw.user) - 20
    assert manifest["spec"] == {"name": "toy", "users": 10, "items": 20, "sample": True, "kind": "sequence"}
    assert spec_from_dict(manifest["spec"]) == SequenceSpec("toy", 10, 20, sample=True)
    assert manifest["rows"] == {"train": train - 10, "valid": 10, "test": 10}
    assert manifest["interactions"] == {"train": train, "valid": 10, "test": 10}
    assert manifest["settings"] == {"eval_negatives": 99}
    assert manifest["source"] == "a toy"
    assert (manifest["skipped_rows"], manifest["sample"]) == (3, True)
    assert manifest["raw"][0]["name"] == "rows.txt"
    assert directory.name == f"toy-{manifest['fingerprint'][:12]}"


@pytest.mark.parametrize("other", [{"name": "other"}, {"reader": "toy/2"}, {"settings": {"a": 1}}, {"sample": True}])
def test_other_settings_make_another_directory(tmp_path, raw, other):
    first, _ = prepare(raw, tmp_path)
    second, built = prepare(raw, tmp_path, **other)
    assert (first != second, built) == (True, 1)


def test_other_raw_files_make_another_directory(tmp_path, raw):
    file = tmp_path / "rows.txt"
    directories = []
    for text in ("one", "two"):
        file.write_text(text)
        directories.append(prepare(raw, tmp_path / "prepared", [file])[0])
    assert directories[0] != directories[1]


def test_damaged_directory_is_made_again(tmp_path, raw):
    directory, _ = prepare(raw, tmp_path)
    (directory / "log.arrow").write_bytes(b"short")
    assert prepare(raw, tmp_path) == (directory, 1)
    assert (directory / "log.arrow").stat().st_size > 1000


def test_failure_leaves_no_directory(tmp_path, raw):
    wrong = dataclasses.replace(raw, negatives={"test": np.ones((3, 2), dtype=np.int32)})
    with pytest.raises(StemlabError, match="negatives for 3 of 10 test rows"):
        prepare(wrong, tmp_path)
    assert [path.name for path in tmp_path.iterdir() if path.is_dir()] == []


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        ([(1, 1, 0, 0), (2, 21, 0, 0)], "'toy', interaction 2: item id 21 .*1 to 20"),
        ([(1, 0, 0, 0)], "interaction 1: item id 0"),
        ([(11, 1, 0, 0)], "interaction 1: user id 11 .*1 to 10"),
        ([], "'toy' have no usable row"),
    ],
)
def test_invalid_rows_are_errors(tmp_path, rows, expected):
    with pytest.raises(StemlabError, match=expected):
        prepare(raw_of(rows, 10, 20), tmp_path)


def test_unknown_negative_is_an_error(tmp_path, raw):
    lists = np.ones((10, 3), dtype=np.int32)
    lists[4, 2] = 21
    wrong = dataclasses.replace(raw, negatives={"valid": lists})
    with pytest.raises(StemlabError, match="valid row 5: item id 21"):
        prepare(wrong, tmp_path)


def test_positives_among_their_negatives_are_counted_and_logged(tmp_path, caplog):
    rows = [(1, 5, 0, 0), (1, 6, 1, 1), (2, 7, 2, 0), (2, 8, 3, 1), (3, 1, 0, 0)]
    raw = raw_of(rows, 3, 9, negatives={"valid": np.array([[8, 9], [8, 8]])})
    directory, _ = prepare(raw, tmp_path)
    assert read_manifest(directory)["positives_among_negatives"] == {"valid": 1}
    assert "'toy': 1 valid rows" in caplog.text


def test_missing_files_are_errors(tmp_path, raw):
    data = Toy(raw, tmp_path)
    directory = data.prepare()
    (directory / "log.arrow").unlink()
    (directory / "tokens" / "item.parquet").write_bytes(b"")
    with pytest.raises(StemlabError, match=r"log\.arrow"):
        _ = data.log
    with pytest.raises(StemlabError, match=r"item\.parquet"):
        read_original_ids(directory, "item")


def test_spec_without_kind_is_a_spec_of_impressions():
    values = {"name": "toy", "fields": [{"name": "uid", "size": 3}], "tasks": ["like"], "scenarios": []}
    assert spec_from_dict(values).field_sizes == {"uid": 3}

"""prepare_impressions: equality with a plain reference, atomicity and reuse."""

import json
import os
import signal
import time
from collections import Counter
from dataclasses import asdict

import numpy as np
import pandas as pd
import pytest
from sklearn.model_selection import train_test_split

from stemlab.data.io import text_blocks as rawfile
from stemlab.data.prepare.manifest import read_manifest
from stemlab.data.prepare.split import SplitRule
from stemlab.data.sample.tiktok import TIKTOK_COLUMNS
from stemlab.data.sources.tiktok import TIKTOK_FILE
from stemlab.data.store import ColumnStore
from stemlab.errors import StemlabError
from tests.cli.forked import ForkedCommand
from tests.data.tiktok_rows import random_columns, tiktok, write_lines, write_raw

FIELDS = ["uid", "item_id", "author_id", "item_city", "channel", "music_id", "device_id", "video_duration"]


def reference(path, fields, rule, min_count):
    """Reference implementation with data frames, counters and one dict per field."""
    frame = pd.read_csv(path, sep="\t", header=None, names=list(TIKTOK_COLUMNS), dtype=str)
    if rule == "time":
        order = frame["create_time"].astype(int).argsort(kind="stable").to_numpy()
        test = int(np.ceil(0.1 * len(frame)))
        valid = int(np.ceil(0.1 * (len(frame) - test)))
        rest = order[: len(order) - test]
        parts = (rest[: len(rest) - valid], rest[len(rest) - valid :], order[len(rest) :])
    else:
        rest, test = train_test_split(np.arange(len(frame)), test_size=0.1, random_state=42)
        train, valid = train_test_split(rest, test_size=0.1, random_state=42)
        parts = (train, valid, test)
    frames = [frame.iloc[np.sort(part)] for part in parts]
    maps = {}
    for field in fields:
        counts = Counter(frames[0][field])
        kept = sorted((t for t, c in counts.items() if c >= min_count), key=lambda t: (-counts[t], t))
        maps[field] = {token: number for number, token in enumerate(kept, start=1)}
    ids = [
        [[maps[f].get(t, len(maps[f]) + 1) for f, t in row.items()] for row in f[fields].to_dict("records")]
        for f in frames
    ]
    sizes = {field: len(ids_of) + 2 for field, ids_of in maps.items()}
    return frames, ids, sizes


def assert_equals_reference(directory, path, fields=FIELDS, rule="random", min_count=10):
    frames, ids, sizes = reference(path, fields, rule, min_count)
    manifest = read_manifest(directory)
    assert manifest["vocabulary"] == sizes
    for split, frame, expected in zip(("train", "valid", "test"), frames, ids, strict=True):
        store = ColumnStore(directory / f"{split}.arrow")
        assert store.ids.tolist() == expected
        labels = frame[["finish", "like"]].astype(int)
        assert store.labels.tolist() == labels.to_numpy().tolist()
        assert store.group.tolist() == frame["uid"].astype(int).tolist()
        assert manifest["rows"][split] == len(frame)
        assert manifest["positives"][split] == labels.sum().to_dict()


@pytest.mark.parametrize("block_bytes", [50, 777, 1 << 23])
@pytest.mark.parametrize("rule", ["random", "time"])
def test_equal_to_the_reference_for_any_block_size(tmp_path, monkeypatch, block_bytes, rule):
    path = write_raw(tmp_path, random_columns(600))
    monkeypatch.setattr(rawfile, "BLOCK_BYTES", block_bytes)
    split = {"rule": rule, "test_size": 0.1, "valid_size": 0.1, "seed": 42}
    assert_equals_reference(tiktok(tmp_path, split=split).prepare(), path, rule=rule)


def test_other_fields_and_counts(tmp_path):
    path = write_raw(tmp_path, random_columns(500, seed=1))
    fields = ["create_time", "uid", "user_city"]  # create_time is far from zero and has a wide value range
    assert_equals_reference(tiktok(tmp_path, fields=fields, min_count=2).prepare(), path, fields, min_count=2)


def test_wide_columns_are_counted_in_parts(tmp_path):
    columns = random_columns(400)
    columns["device_id"] = columns["device_id"] * (2**58)
    path = write_raw(tmp_path, columns)
    assert_equals_reference(tiktok(tmp_path).prepare(), path)


def test_real_rows(tmp_path, real_data):
    path = real_data / "tiktok" / "icme2019_1000_rows.txt"
    module = tiktok(tmp_path, raw_dir=str(path.parent), raw_file=path.name)
    assert_equals_reference(module.prepare(), path)
    assert module.manifest["rows"] == {"train": 810, "valid": 90, "test": 100}
    assert module.spec.sample is False
    assert tiktok(tmp_path, raw_dir=str(path)).prepare() == module.prepare()


def test_manifest_contents(tmp_path):
    write_raw(tmp_path, random_columns(300))
    module = tiktok(tmp_path)
    directory, manifest = module.prepare(), module.manifest
    assert manifest["split"] == asdict(SplitRule())
    assert (manifest["min_count"], manifest["skipped_rows"], manifest["sample"]) == (10, 0, False)
    assert [f["name"] for f in manifest["raw"]] == [TIKTOK_FILE]
    assert set(manifest["files"]) == {
        *(f"{split}.arrow" for split in ("train", "valid", "test")),
        *(f"vocabulary/{field}.parquet" for field in FIELDS),
    }
    assert directory.name == f"tiktok-{manifest['fingerprint'][:12]}"
    assert module.spec.group == "uid"
    assert not (directory / "columns").exists()


def test_bad_rows_raise_or_are_counted(tmp_path):
    columns = random_columns(300)
    path = write_raw(tmp_path, columns)
    good = path.read_text().splitlines()
    write_lines(tmp_path, [*good[:120], "1\t2\t3", *good[120:], good[0].replace("\t", "\tx", 1)])
    with pytest.raises(StemlabError, match=rf"{TIKTOK_FILE}, line 121: 3 columns instead of 12.*on_bad_row=skip"):
        tiktok(tmp_path).prepare()
    assert not [p for p in (tmp_path / "prepared").iterdir() if p.is_dir()]
    module = tiktok(tmp_path, on_bad_row="skip")
    skipping = module.prepare()
    assert module.manifest["skipped_rows"] == 2
    write_lines(tmp_path, good)
    for split in ("train", "valid", "test"):
        clean = ColumnStore(tiktok(tmp_path).prepare() / f"{split}.arrow")
        np.testing.assert_array_equal(ColumnStore(skipping / f"{split}.arrow").ids, clean.ids)


def test_only_bad_rows_raises(tmp_path):
    write_lines(tmp_path, ["x", "y"])
    with pytest.raises(StemlabError, match=r"no valid row \(2 bad"):
        tiktok(tmp_path, on_bad_row="skip").prepare()


def test_fingerprint_changes_with_what_determines_the_content(tmp_path):
    path = write_raw(tmp_path, random_columns(300))
    split = asdict(SplitRule())
    first = tiktok(tmp_path).prepare()
    changes = [
        {"min_count": 3},
        {"fields": FIELDS[::-1]},
        {"tasks": ["like"]},
        {"group": "item_id"},
        {"group": None},
        {"on_bad_row": "skip"},
        {"split": {**split, "seed": 1}},
        {"split": {**split, "test_size": 0.2}},
        {"split": {**split, "rule": "time"}},
    ]
    assert len({tiktok(tmp_path, **change).prepare() for change in changes} | {first}) == len(changes) + 1
    for same in ({"seed": 9}, {"batch_size": 7}, {"source": "auto"}):
        assert tiktok(tmp_path, **same).prepare() == first
    path.write_text(path.read_text().replace("\t53085", "\t53086"))
    assert tiktok(tmp_path).prepare() != first


def test_second_prepare_reads_no_raw_file(tmp_path, monkeypatch):
    write_raw(tmp_path, random_columns(300))
    first = tiktok(tmp_path).prepare()
    times = {p: p.stat().st_mtime_ns for p in first.rglob("*")}
    monkeypatch.setattr("stemlab.data.sources.tiktok.read_blocks", lambda *_: pytest.fail("read again"))
    monkeypatch.setattr("stemlab.data.prepare.manifest.sha256_of", lambda *_: pytest.fail("hashed again"))
    assert tiktok(tmp_path).prepare() == first
    assert {p: p.stat().st_mtime_ns for p in first.rglob("*")} == times


def start(folder):
    """Start a preparation that waits for ``folder/go`` before it writes its manifest."""
    return ForkedCommand("tests.data.prepare.waiting_prepare", [str(folder)], folder, os.environ)


def wait_for(process, stream, text):
    """Wait until a process has written a text to standard output (0) or standard error (1)."""
    end = time.monotonic() + 120
    while text not in process.output()[stream]:
        assert time.monotonic() < end, process.output()
        assert process.returncode is None, process.output()
        time.sleep(0.01)


def test_killed_prepare_leaves_no_final_directory(tmp_path):
    write_raw(tmp_path, random_columns(300))
    process = start(tmp_path)
    wait_for(process, 0, "written\n")
    process.kill()
    process.communicate()
    assert process.returncode == -signal.SIGKILL
    left = [p.name for p in (tmp_path / "prepared").iterdir() if p.is_dir()]
    assert sorted(name[:7] for name in left) == [".blocks", ".build-"]
    directory = tiktok(tmp_path).prepare()
    assert [p for p in (tmp_path / "prepared").iterdir() if p.is_dir()] == [directory]
    assert_equals_reference(directory, tmp_path / "raw" / TIKTOK_FILE)


def test_two_concurrent_processes_build_once(tmp_path):
    write_raw(tmp_path, random_columns(300))
    first = start(tmp_path)
    wait_for(first, 0, "written\n")
    second = start(tmp_path)
    wait_for(second, 1, "another process is preparing tiktok-")
    (tmp_path / "go").touch()
    outputs = [process.communicate(timeout=120)[0].split() for process in (first, second)]
    assert (first.returncode, second.returncode) == (0, 0)
    assert outputs[0][0] == "written"
    assert outputs[1] == outputs[0][1:]  # the second process wrote nothing
    assert json.loads((tmp_path / "prepared" / ".hashes.json").read_text())
    assert_equals_reference(tiktok(tmp_path).prepare(), tmp_path / "raw" / TIKTOK_FILE)

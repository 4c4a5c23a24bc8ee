"""Files of many run records: each record is read as it was written, also after a torn last line."""

import fcntl
import json
from concurrent.futures import ThreadPoolExecutor
from random import Random
from threading import Event
from typing import Any

import pytest

from stemlab.errors import StemlabError
from stemlab.reporting import record_lines
from stemlab.reporting.collect import collect, record_paths
from stemlab.reporting.record_lines import append_record, read_record_lines

LEAVES = (None, True, False, 0, 1, 0.0, 1.0, "a", [1], [{}])


def nested(random: Random, depth: int = 3) -> Any:
    """Return a random mapping, so that two of them differ in values, absent keys and kinds."""
    keys = random.sample("abc/", random.randint(0, 3))
    return {
        key: nested(random, depth - 1) if depth and random.random() < 0.5 else random.choice(LEAVES) for key in keys
    }


@pytest.mark.parametrize("seed", range(20))
def test_records_are_read_as_written(seed, tmp_path):
    random = Random(seed)
    records = [nested(random) for _ in range(5)]
    for record in records:
        append_record(tmp_path / "study.jsonl", record)
    assert json.dumps(read_record_lines(tmp_path / "study.jsonl"), sort_keys=True) == json.dumps(
        records, sort_keys=True
    )


def test_a_torn_last_line_is_replaced(tmp_path):
    path = tmp_path / "study.jsonl"
    for seed in (1, 2):
        append_record(path, {"seed": seed, "metrics": {"auc": 0.5}})
    whole = path.read_bytes()
    path.write_bytes(whole[:-4])
    with pytest.raises(StemlabError, match="line 3"):
        read_record_lines(path)
    append_record(path, {"seed": 2, "metrics": {"auc": 0.5}})
    assert path.read_bytes() == whole


def test_writers_of_one_file_wait_for_each_other(tmp_path, monkeypatch):
    """The second writer starts while the first one has read the file and not written to it."""
    path, inside, waiting, go_on = tmp_path / "study.jsonl", Event(), Event(), Event()
    difference, flock = record_lines._difference, fcntl.flock

    def slow_difference(common, record):
        inside.set()
        assert go_on.wait(30)
        return difference(common, record)

    def observed_flock(file, kind):
        if inside.is_set():
            waiting.set()
        flock(file, kind)

    monkeypatch.setattr(record_lines, "_difference", slow_difference)
    monkeypatch.setattr(fcntl, "flock", observed_flock)
    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(append_record, path, {"seed": 1})
        assert inside.wait(30)
        second = pool.submit(append_record, path, {"seed": 2})
        locked = waiting.wait(5)
        go_on.set()
        first.result()
        second.result()
    assert locked
    assert read_record_lines(path) == [{"seed": 1}, {"seed": 2}]
    assert path.read_text().count("common") == 1


def test_a_line_costs_only_its_differences(tmp_path):
    path = tmp_path / "study.jsonl"
    for seed in (1, 2, 3):
        append_record(path, {"config": {"long": "x" * 1000, "seed": seed}})
    assert max(map(len, path.read_text().splitlines()[2:])) < 60


def test_other_files_are_refused(tmp_path):
    path = tmp_path / "study.jsonl"
    for text in ('{"a": 1}\n', "[]\n", '{"schema": 99, "common": {}}\n'):
        path.write_text(text)
        with pytest.raises(StemlabError, match="common"):
            read_record_lines(path)
    path.write_text('{"schema": 1, "common": {"a": 1}}\n{"inside": {"b": {}}}\n')
    with pytest.raises(StemlabError, match="does not fit"):
        read_record_lines(path)
    with pytest.raises(StemlabError, match="no file"):
        read_record_lines(tmp_path / "none.jsonl")


def test_reports_read_them(tmp_path, root):
    runs = collect([str(root / "scripts" / "records" / "ml1m_multitask")], {"model": "mmoe"}).runs
    path = tmp_path / "records" / "study.jsonl"
    for run in runs:
        append_record(path, run.record)
    append_record(path, {**runs[0].record, "status": "failed"})
    found = collect([str(tmp_path / "records")])
    assert record_paths([str(path.parent)]) == [path]
    assert sorted(run.metric("test/auc/like") for run in found.runs) == sorted(r.metric("test/auc/like") for r in runs)
    assert [run.settings for run in found.runs] == [runs[0].settings] * 3
    assert ["study.jsonl#0004" in sentence for sentence in found.skipped] == [True]

"""How the columns of a run are read: the setting, the memory of the process, loaders and record."""

import logging

import numpy as np
import pytest
import torch

from stemlab.data import reading
from stemlab.data.loader import BatchLoader
from stemlab.data.reading import ReadingChoice, memory_limit
from stemlab.data.window_loader import WindowLoader
from tests.data.test_placement import assert_same_batches
from tests.data.tiktok_rows import random_columns, tiktok, write_raw


@pytest.mark.parametrize(
    ("wanted", "needed", "expected"),
    [("auto", 500, "memory"), ("auto", 501, "blocks"), ("memory", 9999, "memory"), ("blocks", 1, "blocks")],
)
def test_choice(wanted, needed, expected, monkeypatch, caplog):
    monkeypatch.setattr(reading, "memory_limit", lambda: 1000)
    choice = ReadingChoice(wanted, window_rows=7)
    with caplog.at_level(logging.INFO):
        assert [choice.choose(lambda: needed), choice.chosen] == [expected] * 2
    assert ("dataset.reading=auto" in caplog.text) is (needed == 501)
    assert choice.record() == {"reading": expected, **({"window_rows": 7} if expected == "blocks" else {})}


def test_all_ranks_read_in_blocks_if_one_must(monkeypatch):
    monkeypatch.setattr(reading, "memory_limit", lambda: 1000)
    monkeypatch.setattr(reading.distributed, "is_initialized", lambda: True)
    monkeypatch.setattr(reading.distributed, "get_world_size", lambda: 2)
    monkeypatch.setattr(reading.distributed, "all_gather_object", lambda answers, own: answers.__setitem__(1, not own))
    assert ReadingChoice("auto", 7).choose(lambda: 1) == "blocks"


@pytest.mark.parametrize(
    ("groups", "files", "expected"),
    [
        ("0::/a/b", {"a/b/memory.max": "max", "a/memory.max": "5000", "memory.max": "9000"}, 5000),
        ("4:memory:/a\n0::/", {"memory/a/memory.limit_in_bytes": "3000", "cpu/memory.max": "1"}, 3000),
        ("1:cpu:/a", {"a/memory.max": "5"}, None),
    ],
)
def test_limit_of_control_groups(groups, files, expected, tmp_path, monkeypatch):
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    (tmp_path / "groups").write_text(groups + "\n")
    monkeypatch.setattr(reading, "_CGROUP", tmp_path)
    monkeypatch.setattr(reading, "_GROUPS", tmp_path / "groups")
    physical = memory_limit() if expected is None else expected
    assert memory_limit() == physical
    monkeypatch.setattr(reading, "_GROUPS", tmp_path / "missing")
    assert memory_limit() > 10**8


def test_datamodule_reads_in_blocks(tmp_path):
    write_raw(tmp_path, random_columns(600))
    ours = tiktok(tmp_path, reading="blocks", window_rows=128, batch_size=50)
    mapped = tiktok(tmp_path, batch_size=50)
    for datamodule, kind in ((ours, WindowLoader), (mapped, BatchLoader)):
        assert type(datamodule.train_dataloader()) is type(datamodule.val_dataloader()) is kind
    assert (ours.reading.chosen, mapped.reading.chosen) == ("blocks", "memory")
    assert_same_batches(ours.val_dataloader(), mapped.val_dataloader())
    assert_same_batches(ours.test_dataloader(), mapped.test_dataloader())
    found, expected = (torch.cat([b.ids_BF for b in data.train_dataloader()]) for data in (ours, mapped))
    assert not torch.equal(found, expected)
    for one, other in zip(found.T, expected.T, strict=True):
        np.testing.assert_array_equal(one.sort().values, other.sort().values)
    assert ours.placement.wanted == "host"
    ours.placement.use_blocks(4)
    assert sum(block.steps for block in ours.train_dataloader()) == len(mapped.train_dataloader())

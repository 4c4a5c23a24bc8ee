"""An interrupted preparation continues with the chunks that it has read and gives the same bytes."""

import json

import numpy as np
import pytest

from stemlab.config.instantiate import instantiate
from stemlab.data.io import text_blocks
from stemlab.data.prepare import pipeline
from stemlab.data.prepare.block_journal import BlockJournal
from stemlab.data.prepare.column_cache import ColumnCache
from stemlab.data.sources import aliexpress_join
from stemlab.data.table import file as table_file
from stemlab.data.table.raw import RawTable
from stemlab.data.table.tokens import TokenCodes
from stemlab.errors import StemlabError
from tests.data.aliexpress_rows import aliexpress, write_country
from tests.data.table.list_rows import DESCRIBED_LOG, click_log, joined
from tests.data.table.rows import table as described_table
from tests.data.tiktok_rows import random_columns, tiktok, write_raw

ROWS = 600


def table(folder):
    """Return a datamodule of a table with tokens, numbers, scenarios and dates."""
    path = folder / "rows.csv"
    if not path.is_file():
        rng = np.random.default_rng(0)
        lines = (
            f"u{rng.integers(40)},i{row // 9}-{rng.integers(9)},{rng.random():.7f},{'ab'[rng.integers(2)]},"
            f"2024-01-{row % 28 + 1:02d},{rng.integers(2)}"
            for row in range(ROWS)
        )
        path.write_text("user,item,price,place,day,click\n" + "\n".join(lines) + "\n")
    config = {
        **{"name": "rows", "path": str(path), "config": None, "raw_dir": None, "data_dir": str(folder)},
        **{"separator": None, "columns": None, "missing": [""], "fields": ["user", "item"], "numericals": ["price"]},
        **{"scaling": "standard", "tasks": ["click"], "scenario": "place", "scenarios": ["a", "b"], "group": "user"},
        **{"time": "day", "split_column": None, "min_count": 2, "shared": {}, "split": {"rule": "time"}},
        **{"on_bad_row": "error", "batch_size": 8, "eval_batch_size": 8, "seed": 0},
    }
    return instantiate({"_target_": "stemlab.data.sources.table.TableDataModule", **config}, key="dataset")


def lists_of(folder):
    """Return a datamodule of a table with lists of values."""
    if not (folder / "rows.csv").is_file():
        joined(click_log(200)).to_csv(folder / "rows.csv", index=False)
    return described_table(folder, folder / "rows.csv", **DESCRIBED_LOG)


def tiktok_of(folder, **changed):
    if not (folder / "raw").exists():
        write_raw(folder, random_columns(ROWS))
    return tiktok(folder, **changed)


def aliexpress_of(folder):
    """Return a datamodule of two countries with a bad row in each of their item files."""
    if not (folder / "raw").exists():
        for country in ("nl", "us"):
            raw = write_country(folder, country)
            for split in ("train", "test"):
                with (raw / f"{country}_item_{split}.csv").open("a") as file:
                    file.write("bad\n")
    return aliexpress(folder, scenarios=["nl", "us"], on_bad_row="skip")


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch):
    monkeypatch.setattr(text_blocks, "BLOCK_BYTES", 1500)
    monkeypatch.setattr(table_file, "TABLE_BLOCK_BYTES", 1500)
    monkeypatch.setattr(aliexpress_join, "_ROWS_PER_CHUNK", 20)


def prepared_bytes(directory):
    files = {path.name: path.read_bytes() for path in sorted(directory.rglob("*")) if path.is_file()}
    manifest = json.loads(files.pop("manifest.json"))
    return files, {key: value for key, value in manifest.items() if key not in ("created", "checksum")}


def interrupt(monkeypatch, make, chunks):
    """Prepare until that many chunks are appended, then leave as a killed process does: without any clean-up."""
    append, count = ColumnCache.append, []

    def interrupted(self, columns, state=None):
        if len(count) == chunks:
            raise KeyboardInterrupt
        count.append(1)
        append(self, columns, state)

    with monkeypatch.context() as patch:
        patch.setattr(ColumnCache, "append", interrupted)
        with pytest.raises(KeyboardInterrupt):
            make().prepare()


def parsed_chunks(monkeypatch):
    """Return a list that grows by one with every chunk that is parsed and appended."""
    append, found = ColumnCache.append, []
    monkeypatch.setattr(ColumnCache, "append", lambda *args: (found.append(1), append(*args))[1])
    return found


def blocks_in(folder):
    return [path.name for path in (folder / "prepared").iterdir() if path.name.startswith((".blocks", ".build"))]


@pytest.mark.parametrize("make", [tiktok_of, table, lists_of, aliexpress_of])
def test_continues_after_the_finished_chunks(tmp_path, monkeypatch, make, caplog):
    (tmp_path / "whole").mkdir()
    appended = parsed_chunks(monkeypatch)
    expected = prepared_bytes(make(tmp_path / "whole").prepare())
    total = len(appended)
    interrupt(monkeypatch, lambda: make(tmp_path), 3)
    interrupt(monkeypatch, lambda: make(tmp_path), 2)  # of the second process
    assert len(blocks_in(tmp_path)) == 1
    appended.clear()
    with caplog.at_level("INFO"):
        directory = make(tmp_path).prepare()
    assert "interrupted preparation" in caplog.text
    assert len(appended) == total - 5 > 5
    found = prepared_bytes(directory)
    assert found[0] == expected[0]
    assert found[1].get("source") == expected[1].get("source")
    if make not in (table, lists_of):  # the fingerprint of a table contains its path
        assert found[1] == expected[1]
    assert not blocks_in(tmp_path)


@pytest.mark.parametrize("make", [tiktok_of, table, lists_of, aliexpress_of])
def test_continues_after_reading(tmp_path, monkeypatch, make):
    def interrupted(*args):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(pipeline, "write_splits", interrupted)
        with pytest.raises(KeyboardInterrupt):
            make(tmp_path).prepare()
    appended = parsed_chunks(monkeypatch)
    found = prepared_bytes(make(tmp_path).prepare())
    assert not appended
    (tmp_path / "whole").mkdir()
    expected = prepared_bytes(make(tmp_path / "whole").prepare())
    assert found[0] == expected[0]
    assert found[1]["skipped_rows"] == expected[1]["skipped_rows"] == (4 if make is aliexpress_of else 0)


def cut_journal(blocks):
    path = blocks / "journal.jsonl"
    path.write_bytes(path.read_bytes()[:-7])


def cut_column(blocks):
    path = blocks / "0.bin"
    path.write_bytes(path.read_bytes()[:-1])


def change_column(blocks):
    data = bytearray((blocks / "1.bin").read_bytes())
    data[-1] ^= 1
    (blocks / "1.bin").write_bytes(data)


def add_half_a_chunk(blocks):
    with (blocks / "2.bin").open("ab") as file:
        file.write(b"123")


def change_first_chunk(blocks):
    data = (blocks / "0.bin").read_bytes()
    (blocks / "0.bin").write_bytes(bytes([data[0] ^ 1]) + data[1:])


def spoil_journal(blocks):
    (blocks / "journal.jsonl").write_bytes(b"00000000 {}\n")


@pytest.mark.parametrize(
    ("damage", "reused"),
    [
        *((cut_journal, 3), (cut_column, 3), (change_column, 3), (add_half_a_chunk, 4)),
        *((change_first_chunk, 0), (spoil_journal, 0)),
    ],
)
def test_only_intact_chunks_are_reused(tmp_path, monkeypatch, damage, reused):
    (tmp_path / "whole").mkdir()
    appended = parsed_chunks(monkeypatch)
    expected = prepared_bytes(tiktok_of(tmp_path / "whole").prepare())
    total = len(appended)
    interrupt(monkeypatch, lambda: tiktok_of(tmp_path), 4)
    damage(tmp_path / "prepared" / blocks_in(tmp_path)[0])
    appended.clear()
    assert prepared_bytes(tiktok_of(tmp_path).prepare()) == expected
    assert len(appended) == total - reused


def test_other_settings_and_files_start_over_and_remove_the_blocks(tmp_path, monkeypatch):
    appended = parsed_chunks(monkeypatch)
    interrupt(monkeypatch, lambda: tiktok_of(tmp_path), 2)
    tiktok_of(tmp_path, min_count=3).prepare()
    assert not blocks_in(tmp_path)
    interrupt(monkeypatch, lambda: tiktok_of(tmp_path), 2)
    write_raw(tmp_path, random_columns(ROWS, seed=1))
    appended.clear()
    tiktok_of(tmp_path).prepare()
    assert len(appended) > 10
    assert not blocks_in(tmp_path)


def test_bad_row_removes_the_blocks(tmp_path, monkeypatch):
    interrupt(monkeypatch, lambda: tiktok_of(tmp_path), 2)
    monkeypatch.setattr(pipeline, "fit_encoders", lambda *args: (_ for _ in ()).throw(StemlabError("wrong")))
    with pytest.raises(StemlabError):
        tiktok_of(tmp_path).prepare()
    assert not blocks_in(tmp_path)


def test_blocks_of_a_complete_directory_are_removed(tmp_path):
    directory = tiktok_of(tmp_path).prepare()
    (tmp_path / "prepared" / f".blocks-{directory.name}").mkdir()
    tiktok_of(tmp_path).prepare()
    assert not blocks_in(tmp_path)


def test_a_table_that_cannot_continue_starts_over(tmp_path, monkeypatch):
    (tmp_path / "whole").mkdir()
    appended = parsed_chunks(monkeypatch)
    expected = prepared_bytes(table(tmp_path / "whole").prepare())
    total = len(appended)
    interrupt(monkeypatch, lambda: table(tmp_path), 3)
    with monkeypatch.context() as patch:
        patch.setattr(TokenCodes, "encode", lambda self, strings: np.zeros(len(strings), dtype=np.int64))
        module = table(tmp_path)
        patch.setattr(RawTable, "restore", refusing(RawTable.restore, patch))
        appended.clear()
        found = prepared_bytes(module.prepare())
    assert found[0] == expected[0]
    assert len(appended) == total


def refusing(restore, patch):
    """Return ``restore``, which must refuse: every string gets the same code during its call."""

    def called(self, states):
        answer = restore(self, states)
        assert answer is False
        patch.undo()
        return answer

    return called


def test_entries_after_a_damaged_line_do_not_count(tmp_path):
    journal = BlockJournal(tmp_path / "blocks", "key")
    for number in range(3):
        journal.append({"n": number})
    journal.close()
    path = tmp_path / "blocks" / "journal.jsonl"
    path.write_bytes(path.read_bytes().replace(b'"n":1', b'"n":7'))
    journal = BlockJournal(tmp_path / "blocks", "key")
    assert journal.found == [{"n": 0}]
    journal.cut(1)
    journal.append({"n": 5})
    journal.close()
    assert BlockJournal(tmp_path / "blocks", "key").found == [{"n": 0}, {"n": 5}]
    assert BlockJournal(tmp_path / "blocks", "other").found == []

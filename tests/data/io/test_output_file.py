"""Files appear complete or not at all; devices, links and folders are handled as what they are."""

import errno
import os
import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from stemlab.data.io.output_file import (
    complete_file,
    require_writable,
    write_errors,
    write_text_file,
    write_text_files,
)
from stemlab.errors import StemlabError
from stemlab.inference.table_io import table_writer
from stemlab.inference.vector_io import vector_writer
from stemlab.reporting.document import update_block
from stemlab.reporting.record import write_json

ROWS = pa.table({"text": ["x" * 50] * 20_000})


def test_a_file_appears_when_it_is_complete(tmp_path: Path) -> None:
    path = tmp_path / "new" / "a.txt"
    with complete_file(path) as part:
        part.write_text("half")
        assert not path.exists()
    assert path.read_text() == "half"
    assert [entry.name for entry in path.parent.iterdir()] == ["a.txt"]


def test_after_an_error_the_earlier_file_stays(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("before")

    def write() -> None:
        with complete_file(path) as part:
            part.write_text("half")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        write()
    assert path.read_text() == "before"
    assert [entry.name for entry in tmp_path.iterdir()] == ["a.txt"]


def test_links_and_devices_are_not_replaced(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "there").mkdir()
    (tmp_path / "link.txt").symlink_to(tmp_path / "there" / "a.txt")
    write_text_file(tmp_path / "link.txt", "text")
    assert (tmp_path / "link.txt").is_symlink()
    assert (tmp_path / "there" / "a.txt").read_text() == "text"
    write_text_file(Path("/dev/stdout"), "shown\n")
    assert capfd.readouterr().out == "shown\n"
    assert Path("/dev/null").is_char_device()
    write_text_file(Path("/dev/null"), "text")
    assert Path("/dev/null").is_char_device()


@pytest.mark.parametrize("place", ["folder", "file/below", "full", "/proc/nothing/a.csv"])
@pytest.mark.parametrize("kind", ["text", "json", ".csv", ".parquet", ".npz"])
def test_places_that_cannot_be_written_are_one_sentence(kind: str, place: str, tmp_path: Path) -> None:
    ending = kind if kind.startswith(".") else ".txt"
    (tmp_path / f"folder{ending}").mkdir()
    (tmp_path / "file").touch()
    (tmp_path / f"full{ending}").symlink_to("/dev/full")
    before = sorted(tmp_path.rglob("*"))
    path = tmp_path / (place if "/" in place else f"{place}{ending}")
    path = path.with_suffix(ending)
    with pytest.raises(StemlabError, match="folder" if place == "folder" else "cannot be written"):
        write(kind, path)
    assert sorted(tmp_path.rglob("*")) == before
    assert Path("/dev/full").is_char_device()


def write(kind: str, path: Path) -> None:
    if kind == "text":
        write_text_file(path, "text")
    elif kind == "json":
        write_json(path, {"a": 1})
    elif kind == ".npz":
        with vector_writer(path, "item", 1000) as write_vectors:
            write_vectors([str(n) for n in range(1000)], np.zeros((1000, 64), np.float32))
    else:
        with table_writer(path) as write_table:
            write_table(ROWS)


def test_ids_of_vectors_may_exceed_the_size_of_a_plain_zip_entry(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("zipfile.ZIP64_LIMIT", 1000)  # 2 GB
    ids = [str(n) for n in range(1000)]
    with vector_writer(tmp_path / "a.npz", "item", 1000) as write_vectors:
        write_vectors(ids, np.zeros((1000, 4), np.float32))
    assert np.load(tmp_path / "a.npz")["item"].tolist() == ids


def test_a_disk_that_fills_up_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_space(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    document = tmp_path / "a.md"
    document.write_text("<!-- table:a -->\nold\n<!-- /table -->\n")
    monkeypatch.setattr(Path, "replace", no_space)
    for action in (lambda: write_json(tmp_path / "a.json", {}), lambda: update_block(document, "a", "new")):
        with pytest.raises(StemlabError, match=r"a\.\w+ cannot be written .No space left"):
            action()
    assert [entry.name for entry in tmp_path.iterdir()] == ["a.md"]
    assert "old" in document.read_text()


def test_two_writers_of_one_file_do_not_mix(tmp_path: Path) -> None:
    path, stale = tmp_path / "a.txt", tmp_path / "a.txt.part"
    stale.write_text("of a process that was killed")
    with complete_file(path) as first:
        assert first == stale
        first.write_text("first, which is longer")
        write_text_file(path, "second")
        assert path.read_text() == "second"
    assert path.read_text() == "first, which is longer"
    assert [entry.name for entry in tmp_path.iterdir()] == ["a.txt"]


def test_files_written_together_appear_together(tmp_path: Path) -> None:
    (tmp_path / "a.md").write_text("old")
    (tmp_path / "b.csv").symlink_to("/dev/full")
    with pytest.raises(StemlabError, match=r"b\.csv cannot be written .No space"):
        write_text_files({tmp_path / "a.md": "new", tmp_path / "b.csv": "x", tmp_path / "c.tex": "x"})
    assert (tmp_path / "a.md").read_text() == "old"
    (tmp_path / "b.csv").unlink()
    write_text_files({tmp_path / "a.md": "new", tmp_path / "b.csv": "x"})
    assert {entry.name: entry.read_text() for entry in tmp_path.iterdir()} == {"a.md": "new", "b.csv": "x"}


def because(error: Exception, cause: Exception) -> Exception:
    error.__context__ = cause
    return error


NO_SPACE = OSError(errno.ENOSPC, "No space left on device")


@pytest.mark.parametrize(
    ("error", "reason", "advice"),
    [
        (NO_SPACE, "No space left on device", "free disk space"),
        (OSError("Error writing bytes to file. Detail: [errno 28] No space left"), "No space left", "free disk space"),
        (shutil.Error([("a", "b", "[Errno 28] No space left on device: 'a' -> 'b'")]), "No space", "free disk space"),
        (because(RuntimeError("enforce fail: unexpected pos 64 vs 0"), NO_SPACE), "No space left", "free disk space"),
        (RuntimeError("PytorchStreamWriter failed writing file x"), "only a part", "free disk space"),
        (OSError(errno.EROFS, "Read-only file system"), "Read-only file system", "choose another path"),
        (OSError(errno.ENOTEMPTY, "Directory not empty"), "not empty", "choose another path"),
        (FileExistsError(errno.EEXIST, "File exists"), "is a file", "choose another path"),
    ],
)
def test_the_reason_and_the_advice_fit_the_error(error: Exception, reason: str, advice: str) -> None:
    with pytest.raises(StemlabError, match=f"^out cannot be written .*{reason}.*: {advice}"), write_errors(Path("out")):
        raise error


def test_other_errors_of_pytorch_pass() -> None:
    with pytest.raises(RuntimeError, match="shape"), write_errors(Path("out")):
        raise RuntimeError("shape")


def test_places_that_cannot_be_written_are_refused_before_the_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    require_writable(tmp_path / "new" / "a.json")
    require_writable(Path("/dev/stdout"))
    with pytest.raises(StemlabError, match="file is a file"):
        require_writable(tmp_path / "file" / "a.json")
    monkeypatch.setattr(os, "access", lambda path, mode: Path(path) != tmp_path)  # the superuser may write everywhere
    with pytest.raises(StemlabError, match=rf"no write access to {tmp_path}\)"):
        require_writable(tmp_path / "new" / "a.json")

import errno
import json
import os

import pytest

from stemlab.data.prepare import manifest
from stemlab.data.prepare.atomic_directory import find_or_build
from stemlab.data.prepare.manifest import describe_file, find_damage, fingerprint_of, read_manifest, write_manifest
from stemlab.errors import StemlabError


def build(part):
    (part / "data.bin").write_bytes(b"12345")
    write_manifest(part, {"fingerprint": "abc"})


def damage(directory):
    return find_damage(directory, "abc")


def test_directory_is_built_once(tmp_path):
    final = tmp_path / "prepared" / "d-abc"
    builds = []
    for _ in range(2):
        assert find_or_build(final, damage, lambda part: (builds.append(part), build(part))[1]) == final
    assert len(builds) == 1
    found = read_manifest(final)
    assert found.keys() == {"fingerprint", "files", "crc32", "checksum"}
    assert (found["fingerprint"], found["files"]) == ("abc", {"data.bin": 5})
    assert [p.name for p in final.parent.iterdir() if not p.name.endswith(".lock")] == ["d-abc"]


def spoil_short(final):
    (final / "data.bin").write_bytes(b"123")


def spoil_missing(final):
    (final / "data.bin").unlink()


def spoil_manifest(final):
    (final / "manifest.json").write_text("{")


def spoil_settings(final):
    (final / "manifest.json").write_text('{"fingerprint": "other", "files": {}}')


def spoil_byte(final):
    (final / "data.bin").write_bytes(b"12344")


def spoil_spec(final):
    path = final / "manifest.json"
    path.write_text(path.read_text().replace('"files"', '"spec"'))


def spoil_checksums(final):
    (final / "manifest.json").write_text('{"fingerprint": "abc", "files": {"data.bin": 5}}')


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (spoil_byte, "data.bin was changed"),
        (spoil_spec, "manifest.json was changed"),
        (spoil_checksums, "no checksums"),
        (spoil_short, "data.bin has 3 of 5 bytes"),
        (spoil_missing, "data.bin is missing"),
        (spoil_manifest, "is not a prepared dataset"),
        (spoil_settings, "other settings"),
    ],
)
def test_damaged_directory_is_rebuilt(tmp_path, spoil, message, caplog):
    final = tmp_path / "d-abc"
    find_or_build(final, damage, build)
    spoil(final)
    assert message in str(damage(final))
    find_or_build(final, damage, build)
    assert damage(final) is None
    assert message in caplog.text


def test_failed_build_leaves_no_directory(tmp_path):
    def fail(part):
        (part / "data.bin").write_bytes(b"1")
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        find_or_build(tmp_path / "d-abc", damage, fail)
    assert [p.name for p in tmp_path.iterdir()] == [".d-abc.lock"]


def test_full_disk_raises(tmp_path):
    def fill(part):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with pytest.raises(StemlabError, match=r"no disk space .*paths.data_dir"):
        find_or_build(tmp_path / "d-abc", damage, fill)


def test_stale_builds_are_deleted(tmp_path):
    for name in (".build-d-abc", ".build-other-123"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "train.arrow").write_bytes(b"half")
    find_or_build(tmp_path / "d-abc", damage, build)
    assert sorted(p.name for p in tmp_path.iterdir() if p.is_dir()) == ["d-abc"]


def test_hashes_are_cached_until_the_file_changes(tmp_path):
    raw, cache = tmp_path / "raw.txt", tmp_path / "cache" / ".hashes.json"
    raw.write_bytes(b"abc")
    read = []
    first = describe_file(raw, cache, read.append)
    assert first == {
        "name": "raw.txt",
        "size": 3,
        "sha256": "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad",
    }
    (known,) = json.loads(cache.read_text())
    cache.write_text(json.dumps({known: "remembered"}))
    assert describe_file(raw, cache, read.append) == {**first, "sha256": "remembered"}
    assert read == [3, 3]
    os.utime(raw, ns=(1, 1))
    assert describe_file(raw, cache, read.append) == first
    raw.write_bytes(b"abd")
    assert describe_file(raw, cache, read.append)["sha256"] != first["sha256"]
    cache.write_text("not json")
    assert describe_file(raw, cache)["size"] == 3


def test_fingerprint_is_independent_of_key_order():
    assert fingerprint_of({"a": 1, "b": [2]}) == fingerprint_of({"b": [2], "a": 1})
    assert fingerprint_of({"a": 1}) != fingerprint_of({"a": 2})
    assert len(fingerprint_of(json.loads("{}"))) == 64


def test_bytes_are_read_once_per_process(tmp_path, monkeypatch):
    final = tmp_path / "d-abc"
    find_or_build(final, damage, build)
    assert damage(final) is None
    monkeypatch.setattr(manifest, "crc32_of", None)
    assert damage(final) is None


def test_checksum_depends_on_every_block_and_their_order(tmp_path, monkeypatch):
    monkeypatch.setattr(manifest, "_CHECKSUM_BLOCK", 2)
    path, found = tmp_path / "data.bin", set()
    for content in (b"aabbc", b"bbaac", b"aabb", b"aabbd", b"abbac", b""):
        path.write_bytes(content)
        found.add(manifest.crc32_of(path))
    assert len(found) == 6


@pytest.mark.parametrize("blocked", ["file", "parent"])
def test_folder_that_cannot_be_made_is_named(tmp_path, blocked):
    """A file stands where a folder should be; the superuser of a container may write into any folder."""
    (tmp_path / "data").write_text("")
    final = tmp_path / "data" / ("d-abc" if blocked == "file" else "prepared/d-abc")
    with pytest.raises(StemlabError, match=r"data.* cannot be written .*paths\.data_dir"):
        find_or_build(final, damage, build)


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (OSError(errno.ENOSPC, "full"), "no disk space"),
        (OSError(errno.EDQUOT, "quota"), "no disk space"),
        (PermissionError(errno.EACCES, "denied", "{root}/.build-d-abc/train.arrow"), "train.arrow cannot be written"),
        (OSError(errno.EROFS, "read-only"), "cannot be written .read-only.*data_dir"),
        (PermissionError(errno.EACCES, "denied", "/raw/rows.csv"), "/raw/rows.csv cannot be read: denied"),
        (MemoryError(), "not enough memory"),
    ],
)
def test_errors_of_the_machine_are_one_sentence(tmp_path, error, expected):
    def failing(part):
        (part / "half").write_text("x")
        if getattr(error, "filename", None):
            error.filename = error.filename.format(root=tmp_path / "prepared")
        raise error

    with pytest.raises(StemlabError, match=expected):
        find_or_build(tmp_path / "prepared" / "d-abc", damage, failing)
    assert not [path for path in (tmp_path / "prepared").iterdir() if not path.name.endswith(".lock")]


def test_hash_cache_that_cannot_be_written_is_no_error(tmp_path):
    raw = tmp_path / "raw.txt"
    raw.write_text("1")
    assert describe_file(raw, raw / "hashes.json")["size"] == 1

"""Checksums of ZIP files."""

import os
import struct
import zipfile
from pathlib import Path

import pytest
import torch

from stemlab.data.io.zip_checksums import find_zip_damage
from tests.damage import flip_byte


def test_a_changed_byte_of_a_tensor_is_found_again_after_the_file_was_verified(tmp_path: Path) -> None:
    path = tmp_path / "a.ckpt"
    values = torch.arange(100.0)
    torch.save({"a": torch.ones(3), "b": values}, path)
    assert find_zip_damage(path) is None
    flip_byte(path, values.numpy().tobytes())
    assert not torch.equal(torch.load(path)["b"], values)  # PyTorch reads other numbers without an error
    assert "a/data/1 has changed" in find_zip_damage(path)


def test_intact_files_are_read_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.ckpt"
    torch.save({"a": torch.ones(3)}, path)
    read = []
    monkeypatch.setattr(zipfile.ZipFile, "testzip", lambda self: read.append(self.filename))
    assert (find_zip_damage(path), find_zip_damage(path), len(read)) == (None, None, 1)
    os.utime(path, (1, 1))
    find_zip_damage(path)
    assert len(read) == 2


def test_damaged_headers_and_files_of_other_kinds(tmp_path: Path) -> None:
    path = tmp_path / "a.ckpt"
    torch.save({"a": torch.ones(3)}, path)
    flip_byte(path, struct.pack("<I", 0x04034B50))  # signature of a member
    assert "a/data.pkl has changed" in find_zip_damage(path)
    path.write_text("no ZIP file")
    assert find_zip_damage(path) is None
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("a", "b" * 100)
    content = path.read_bytes()
    path.write_bytes(content.replace(b"PK\x01\x02", b"PK\x01\x03"))  # signature of the directory
    assert "directory" in find_zip_damage(path)

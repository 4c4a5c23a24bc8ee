"""Archives from strangers are read as streams: no member is extracted, whatever its name or kind."""

import io
import tarfile
import zipfile
from pathlib import Path

import pytest

from stemlab.data.io.text_blocks import read_blocks
from stemlab.errors import StemlabError

NAMES = ("../../outside.dat", "/tmp/stemlab-outside.dat", "a/../../b.dat", "..\\outside.dat", "x.dat")


def read(path: Path, member: str) -> bytes:
    return b"".join(block.data for block in read_blocks(path, member, lambda size: None))


def files(folder: Path) -> set[Path]:
    return {path for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("name", NAMES)
def test_members_of_a_zip_are_not_extracted(name: str, tmp_path: Path) -> None:
    folder = tmp_path / "a" / "b"
    folder.mkdir(parents=True)
    with zipfile.ZipFile(folder / "raw.zip", "w") as archive:
        archive.writestr(name, "evil\n")
        archive.writestr("folder/rows.dat", "1,2\n")
    assert read(folder / "raw.zip", "rows.dat") == b"1,2\n"
    assert read(folder / "raw.zip", Path(name).name) == b"evil\n"
    assert files(tmp_path) == {folder / "raw.zip"}
    assert not Path("/tmp/stemlab-outside.dat").exists()


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE, tarfile.CHRTYPE, tarfile.DIRTYPE])
def test_members_of_a_tar_that_are_no_files_are_not_followed(kind: bytes, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("secret\n")
    with tarfile.open(tmp_path / "raw.tar.gz", "w:gz") as archive:
        member = tarfile.TarInfo("rows.dat")
        member.type, member.linkname = kind, str(tmp_path / "secret")
        archive.addfile(member)
        traversal = tarfile.TarInfo("../../outside.dat")
        traversal.size = 5
        archive.addfile(traversal, io.BytesIO(b"evil\n"))
    before = files(tmp_path)
    with pytest.raises(StemlabError, match=r"raw\.tar\.gz"):
        read(tmp_path / "raw.tar.gz", "rows.dat")
    assert files(tmp_path) == before


def test_a_zip_inside_a_zip_is_opened_once(tmp_path: Path) -> None:
    """An archive that contains itself would be opened for ever."""
    inner = b""
    for _ in range(3):
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w") as archive:
            if inner:
                archive.writestr("rows.zip", inner)
            else:
                archive.writestr("rows.dat", "1,2\n")
        inner = buffer.getvalue()
        (tmp_path / f"{_}.zip").write_bytes(inner)
    assert read(tmp_path / "1.zip", "rows.dat") == b"1,2\n"
    with pytest.raises(StemlabError, match=r"rows\.dat"):
        read(tmp_path / "2.zip", "rows.dat")

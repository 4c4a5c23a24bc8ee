"""Run record: atomic writing, reading, and the code version in it."""

import math
import subprocess
from pathlib import Path

import pytest

import stemlab
from stemlab.errors import StemlabError
from stemlab.reporting import record
from stemlab.reporting.record import code_version, defined, hardware, packages, peak_memory, read_record, write_json


def test_nan_and_infinity_become_none() -> None:
    values = {"a": math.nan, "b": [1.5, math.inf, (math.nan,)], "c": {"d": -math.inf, "e": 0.1 + 0.2}, "f": None}
    assert defined(values) == {"a": None, "b": [1.5, None, [None]], "c": {"d": None, "e": 0.1 + 0.2}, "f": None}


def test_floats_round_trip_exactly(tmp_path: Path) -> None:
    value = 0.7123456789012345
    write_json(tmp_path / "new" / "record.json", {"schema": 1, "metrics": {"val/auc": value, "val/gauc": math.nan}})
    assert read_record(tmp_path / "new")["metrics"] == {"val/auc": value, "val/gauc": None}
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["record.json"]


def test_a_failed_write_keeps_the_old_record(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "record.json"
    write_json(path, {"schema": 1, "status": "finished"})

    def replace(self: Path, target: Path) -> None:
        raise OSError("no space")

    monkeypatch.setattr(Path, "replace", replace)
    with pytest.raises(StemlabError, match=r"record\.json.*no space"):
        write_json(path, {"schema": 1, "status": "failed"})
    assert read_record(path)["status"] == "finished"


@pytest.mark.parametrize(
    ("content", "hint"),
    [
        (None, "no run record"),
        ("{", "is not JSON"),
        ('{"schema": 99}', "schema 1"),
        ("[]", "not a"),
    ],
)
def test_an_invalid_record_is_an_error(content: str | None, hint: str, tmp_path: Path) -> None:
    if content is not None:
        (tmp_path / "record.json").write_text(content)
    with pytest.raises(StemlabError, match=hint):
        read_record(tmp_path)


def checkout(folder: Path, *tracked: str) -> str:
    git = ["git", "-c", "user.name=a", "-c", "user.email=a@b.c", "-C", str(folder)]
    subprocess.run([*git, "init", "-q"], check=True)
    (folder / "package").mkdir()
    (folder / "package" / "__init__.py").write_text("")
    (folder / "other").write_text("")
    subprocess.run([*git, "add", *tracked], check=True)
    subprocess.run([*git, "commit", "-q", "-m", "x"], check=True)
    done = subprocess.run([*git, "rev-parse", "HEAD"], check=True, capture_output=True, text=True)
    return done.stdout.strip()


def test_the_commit_of_the_package_is_recorded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    commit = checkout(tmp_path, "package", "other")
    monkeypatch.setattr(record.stemlab, "__file__", str(tmp_path / "package" / "__init__.py"))
    assert code_version() == {"version": stemlab.__version__, "git_commit": commit, "git_dirty": False}
    (tmp_path / "package" / "__init__.py").write_text("changed = True")
    assert code_version()["git_dirty"] is True


def test_an_installed_package_has_no_commit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The package is installed inside another project's checkout."""
    checkout(tmp_path, "other")
    monkeypatch.setattr(record.stemlab, "__file__", str(tmp_path / "package" / "__init__.py"))
    assert code_version() == {"version": stemlab.__version__, "git_commit": None, "git_dirty": None}


def test_packages_hardware_and_memory() -> None:
    assert packages()["pytorch-lightning"].startswith("2.")
    assert hardware(3)["processes"] == 3
    assert hardware(1)["memory_bytes"] > 10**9
    assert 10**7 < peak_memory()["peak_rss_bytes"] < hardware(1)["memory_bytes"]

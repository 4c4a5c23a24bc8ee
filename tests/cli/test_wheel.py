"""The wheel contains conf/: its console scripts work from any directory, without the checkout."""

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

pytestmark = pytest.mark.process


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """Build the wheel with the backend of this environment (no download)."""
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", f"--outdir={folder}", str(ROOT)]
    subprocess.run(command, check=True, capture_output=True, timeout=300)
    return next(folder.glob("*.whl"))


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory):
    """Install the wheel into an empty folder; its dependencies come from this environment."""
    folder = tmp_path_factory.mktemp("installed")
    pip = [
        sys.executable,
        "-m",
        "pip",
        "install",
        "--quiet",
        "--no-deps",
        "--no-compile",
        "--no-index",
        f"--target={folder}",
        str(wheel),
    ]
    subprocess.run(pip, check=True, capture_output=True, timeout=300)
    return folder


def run(installed, cwd, script, *overrides):
    environment = {**os.environ, "PYTHONPATH": str(installed), "OMP_NUM_THREADS": "1"}
    command = [str(installed / "bin" / script), *overrides]
    return subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, timeout=120, check=False)


def test_contents(wheel):
    names = set(zipfile.ZipFile(wheel).namelist())
    kept = {f"stemlab/{path.relative_to(ROOT).as_posix()}" for path in (ROOT / "conf").rglob("*.yaml")}
    assert kept <= names
    assert "stemlab/py.typed" in names
    assert not [name for name in names if name.startswith(("tests/", "conf/", "data/"))]


def test_the_installed_package_is_the_wheel(installed, tmp_path):
    environment = {**os.environ, "PYTHONPATH": str(installed)}
    show = "from stemlab.config.conf_dir import conf_dir; print(conf_dir())"
    command = [sys.executable, "-c", show]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == str(installed / "stemlab" / "conf")


def test_console_scripts(installed, tmp_path):
    shown = run(installed, tmp_path, "stemlab-train", "--cfg", "job", "model=ple", "dataset=tiktok")
    assert shown.returncode == 0, shown.stderr
    assert "_target_: stemlab.models.multitask.ple.PLE" in shown.stdout
    refused = run(installed, tmp_path, "stemlab-train", "model=ple", "model.net.embedding_dim=0")
    assert refused.returncode == 2
    assert refused.stderr.startswith("error: model.net.embedding_dim=0 ")
    assert refused.stderr.count("\n") == 1
    listed = run(installed, tmp_path, "stemlab")
    assert listed.returncode == 0
    assert "evaluate" in listed.stdout
    assert list(tmp_path.iterdir()) == []


def test_a_file_in_the_wheel_is_named(installed, tmp_path):
    refused = run(installed, tmp_path, "stemlab", "evaluate")
    assert refused.returncode == 2
    assert refused.stderr.startswith("error: ckpt ")
    assert "conf/evaluate.yaml" in refused.stderr
    assert refused.stderr.count("\n") == 1

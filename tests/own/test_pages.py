"""Every file and command of docs/own works, on smaller data."""

import json
import re
from pathlib import Path

import pytest

from tests.cli.commands import Workspace
from tests.own.pages import OWN, PAGES, commands, files, modules_of, write_files
from tests.tiny_datasets import overrides

SHORT = ["trainer.max_epochs=1", "logger=none", "dataset.batch_size=64", "optim.lr=0.01"]


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the files of all pages."""
    made = tmp_path_factory.mktemp("own")
    for page in PAGES:
        write_files(page, made)
    return made


@pytest.fixture(scope="session")
def small(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[str]]:
    """``dataset=<name>`` -> the overrides of a small one."""
    data = tmp_path_factory.mktemp("own_data")
    return {f"dataset={name}": overrides(name, data / name) for name in ("tiktok", "ml1m")}


def shortened(words, small):
    replaced = [word for typed in words for word in small.get(typed, [typed]) if not word.startswith("trainer.max_")]
    return [word for word in replaced if not word.startswith("dataset.batch_size")] + SHORT


@pytest.mark.parametrize(
    ("page", "number"), [(page, n) for page in PAGES for n, words in enumerate(commands(page)) if "train" in words]
)
def test_command_trains(page, number, folder, small):
    command, *words = commands(page)[number]
    with modules_of(folder):
        shown = Workspace(folder).run(command, *shortened(words, small), f"hydra.run.dir=runs/{page}{number}")
    record = folder / "runs" / f"{page}{number}" / "record.json"
    if "-m" in words:
        assert "CrossStitch" in shown.stdout or "cross_stitch" in shown.stdout
        return
    found = json.loads(record.read_text())
    assert found["status"] == "finished"
    assert found["config"]["model"]["net"]["_target_"].startswith("my_")
    assert any(isinstance(value, float) for value in found["metrics"].values())


def test_checkpoint_of_an_own_network_needs_permission(folder, small):
    run, place = "hydra.run.dir=runs/allowed", "ckpt=runs/allowed/checkpoints/best.ckpt"
    words = [word for word in commands("cross_stitch.md")[0][1:] if not word.startswith("model.name")]
    with modules_of(folder):
        workspace = Workspace(folder)
        workspace.run("train", *shortened(words, small), run)
        assert "allow=[my_net]" in workspace.run("evaluate", place, status=2).stderr
        assert "bit for bit" in workspace.run("evaluate", place, "allow=[my_net]").stdout


def test_links_of_the_pages_exist():
    for page in PAGES:
        for target in re.findall(r"\]\(([^)#]+)", (OWN / page).read_text()):
            assert (OWN / target).exists(), f"{page}: {target}"


def test_pages_have_files_and_commands():
    assert "my_net.py" in files("cross_stitch.md")
    assert len(files("cross_stitch.md")["my_net.py"].splitlines()) < 70
    assert commands("README.md")

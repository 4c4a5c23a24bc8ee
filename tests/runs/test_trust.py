"""Configs read from files may name allowed classes only, and no module is imported before that check."""

import re
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from stemlab.errors import StemlabError
from stemlab.runs.trust import check_packages, check_recorded_config

SOURCE = Path("stranger.ckpt")
TIKTOK = "stemlab.data.sources.tiktok.TiktokDataModule"
STEM = "stemlab.models.multitask.stem.STEM"


def config(dataset: Any = TIKTOK, net: Any = STEM, **dataset_settings: Any) -> dict[str, Any]:
    return {
        "dataset": {"_target_": dataset, "name": "tiktok", **dataset_settings},
        "model": {"name": "stem", "net": {"_target_": net}},
        "seed": 1,
    }


@pytest.fixture
def evil_module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A module ``evilmod`` in the current folder; importing it creates the file ``imported``."""
    code = (
        "import pathlib\n"
        "from pytorch_lightning import LightningDataModule\n"
        "pathlib.Path('imported').touch()\n"
        "class Data(LightningDataModule):\n"
        "    pass\n"
        "def function(**settings):\n"
        "    pathlib.Path('called').touch()\n"
    )
    (tmp_path / "evilmod.py").write_text(code)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend("")
    yield tmp_path
    sys.modules.pop("evilmod", None)


def test_classes_of_stemlab_are_accepted() -> None:
    check_recorded_config(config(), [], SOURCE)


@pytest.mark.parametrize(
    "target",
    [
        "evilmod.Data",
        "os.system",
        "subprocess.Popen",
        "wandb.sdk.lib.gitlib.run_git",
        "builtins.exec",
        "stemlab.runs.environment.os.system",
        "stemlab.config.job_process.run_process_group",
        "stemlab.data.io.download.fetch",
        "stemlab.data.prepare.manifest.sha256_of",
        "stemlab.data.datamodule.LightningDataModule",
        "stemlab.data.batch.ImpressionBatch",
        "stemlab.__main__.main",
        "stemlab.data",
        "stemlab.data.sources.tiktok",
        "stemlab.database.X",
        "stemlab.data.nowhere.X",
        "stemlab.data..sources.tiktok.TiktokDataModule",
        ".TikTokDataModule",
        "stemlab.data.sources.tiktok.TiktokDataModule\n",
        STEM,
        "",
        None,
        7,
        ["os.system"],
        {"a": "b"},
    ],
)
def test_other_datasets_are_refused_before_an_import(target: Any, evil_module: Path) -> None:
    with pytest.raises(StemlabError, match=r"stranger\.ckpt"):
        check_recorded_config(config(dataset=target), [], SOURCE)
    assert "evilmod" not in sys.modules
    assert not (evil_module / "imported").exists()


@pytest.mark.parametrize(
    "target",
    [
        "evilmod.Net",
        "torch.nn.Linear",
        "torch.hub.load",
        TIKTOK,
        "stemlab.models.parameter_counts",
        "stemlab.models.x.Y",
    ],
)
def test_other_networks_are_refused(target: str, evil_module: Path) -> None:
    with pytest.raises(StemlabError, match=r"stranger\.ckpt.*model\.net\._target_"):
        check_recorded_config(config(net=target), [], SOURCE)
    assert "evilmod" not in sys.modules


def test_the_message_names_the_word_that_allows_a_package(evil_module: Path) -> None:
    with pytest.raises(StemlabError, match=re.escape("allow=[evilmod]")):
        check_recorded_config(config(dataset="evilmod.Data"), [], SOURCE)
    check_recorded_config(config(dataset="evilmod.Data"), ["evilmod"], SOURCE)
    assert (evil_module / "imported").exists()


def test_an_allowed_package_is_not_a_prefix_of_a_name(evil_module: Path) -> None:
    for allow in (["evil"], ["evilmod.Dat"], [""], ["evilmod.inner"]):
        with pytest.raises(StemlabError):
            check_recorded_config(config(dataset="evilmod.Data"), allow, SOURCE)
    assert "evilmod" not in sys.modules


def test_a_function_of_an_allowed_package_is_refused(evil_module: Path) -> None:
    with pytest.raises(StemlabError, match="LightningDataModule"):
        check_recorded_config(config(dataset="evilmod.function"), ["evilmod"], SOURCE)
    assert not (evil_module / "called").exists()


@pytest.mark.parametrize("name", ["../outside", "a/b", "/etc/x", "..", ".hidden", "", "a\0b", None, 5])
def test_dataset_names_that_are_paths_are_refused(name: Any) -> None:
    with pytest.raises(StemlabError, match=r"dataset\.name"):
        check_recorded_config(config() | {"dataset": {"_target_": TIKTOK, "name": name}}, [], SOURCE)


def test_targets_elsewhere_and_objects_are_refused() -> None:
    with pytest.raises(StemlabError, match=r"callbacks\.x\._target_"):
        check_recorded_config(config() | {"callbacks": {"x": {"_target_": "os.system"}}}, [], SOURCE)
    with pytest.raises(StemlabError, match=r"seed.*Tensor"):
        check_recorded_config(config() | {"seed": torch.ones(1)}, [], SOURCE)


@pytest.mark.parametrize("broken", [{}, {"dataset": 3}, {"dataset": {}, "model": {}}, {**config(), "model": None}])
def test_incomplete_configs_are_refused(broken: Any) -> None:
    with pytest.raises(StemlabError, match=r"stranger\.ckpt"):
        check_recorded_config(broken, [], SOURCE)


@pytest.mark.parametrize("word", ["a/b", "", "a-b", "a.", "a b", "*"])
def test_words_that_are_no_packages_are_refused(word: str) -> None:
    with pytest.raises(StemlabError, match="allow"):
        check_packages([word])
    check_packages(["mypkg", "mypkg.models"])

"""The synthetic sample replaces missing raw files of the default folder only."""

from pathlib import Path

import pytest
from omegaconf import OmegaConf

from stemlab.config.compose import compose
from stemlab.config.raw_folder import SAMPLED_FOLDERS, dataset_settings
from stemlab.errors import StemlabError
from stemlab.prepare import prepare
from stemlab.runs.build import build_datamodule

OPTIONS = Path(__file__).resolve().parents[2] / "conf" / "dataset"
SAMPLED = sorted(path.stem for path in OPTIONS.glob("*.yaml") if "source" in OmegaConf.load(path))


def test_default_folders_are_those_of_the_options(tmp_path):
    found = set()
    for option in SAMPLED:
        config = compose("prepare", [f"dataset={option}", f"paths.data_dir={tmp_path}"])
        assert dataset_settings(config)["source"] == "auto"
        found.add(Path(config["dataset"]["raw_dir"]).name)
    assert found == set(SAMPLED_FOLDERS)


@pytest.mark.parametrize("option", SAMPLED)
@pytest.mark.parametrize("folder", ["typed", "raw/typed", "raw"])
def test_a_named_folder_without_raw_files_is_refused(tmp_path, option, folder):
    raw = tmp_path / folder
    raw.mkdir(parents=True)
    typed = [f"dataset={option}", f"paths.data_dir={tmp_path}", f"dataset.raw_dir={raw}"]
    typed += ["dataset.download=false"] if option in ("ml1m", "ml100k") else []
    config = compose("prepare", typed)
    with pytest.raises(StemlabError, match=rf"{raw} has no|no .* in {raw}"):
        prepare(config)
    with pytest.raises(StemlabError, match=rf"{raw} has no|no .* in {raw}"):
        build_datamodule(config).prepare()
    assert not (tmp_path / "sample").exists()


def test_a_sample_that_is_asked_for_needs_no_raw_files(tmp_path):
    config = compose("prepare", [f"paths.data_dir={tmp_path}", "dataset.raw_dir=nowhere", "dataset.source=sample"])
    assert dataset_settings(config)["source"] == "sample"

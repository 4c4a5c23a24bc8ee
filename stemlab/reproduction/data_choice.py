"""Raw files of a reproduction: found in a folder, or replaced by synthetic SAMPLE data."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from stemlab.config.override_text import quote_override
from stemlab.config.reproduce_schema import PresetConfig
from stemlab.errors import StemlabError

_RAW_DIR = "{raw_dir}"


@dataclass(frozen=True)
class ChosenData:
    """Data of a reproduction.

    Attributes:
        settings: settings of every run.
        sample: whether the data are synthetic.
        text: one sentence for the screen and the record.
    """

    settings: list[str]
    sample: bool
    text: str


def choose_data(preset: PresetConfig, raw_dir: str | None, data_dir: Path) -> ChosenData:
    """Return the data of a reproduction: raw files if they exist, else the sample of the preset.

    Args:
        preset: the preset.
        raw_dir: folder of the raw files; None: the folder of the preset below ``data_dir/raw``. The sample does not
            replace missing files of a named folder.
        data_dir: folder of raw and prepared data.

    Raises:
        StemlabError: the files are missing, and the preset has no sample or the folder was named.
    """
    if not preset.data:
        if raw_dir is not None:
            raise StemlabError(f"raw_dir={raw_dir}: {preset.name} reads no raw files.")
        return ChosenData([], False, "synthetic data only")
    folder = Path(raw_dir).absolute() if raw_dir else data_dir / "raw" / str(preset.folder)
    for choice in preset.data:
        if all(any(folder.glob(pattern)) for pattern in choice.files):
            return ChosenData([_filled(word, folder) for word in choice.settings], False, f"raw files in {folder}")
    wanted = " or ".join(", ".join(choice.files) for choice in preset.data)
    if preset.sample is None or raw_dir is not None:
        raise StemlabError(
            f"{folder} has no {wanted}: {preset.obtain or 'put the files there'} (docs/methods/datasets.md), or name "
            "another folder with raw_dir=<folder>."
        )
    text = f"SAMPLE: synthetic data, because {folder} has no {wanted}; the results are not results on the real data"
    return ChosenData(list(preset.sample.settings), True, text)


def _filled(word: str, folder: Path) -> str:
    key, _, value = word.partition("=")
    return f"{key}={quote_override(value.replace(_RAW_DIR, str(folder)))}" if _RAW_DIR in value else word


def settings_that_change_results(settings: Sequence[str]) -> list[str]:
    """Return the settings typed for all runs that are not about the machine, data folders or loggers."""
    return [word for word in settings if not word.lstrip("+").startswith(_MACHINE_SETTINGS)]


_MACHINE_SETTINGS = (
    *("trainer=", "trainer.accelerator=", "trainer.devices=", "trainer.threads=", "trainer.kernels=", "trainer.loop="),
    *(
        "trainer.num_nodes=",
        "trainer.embedding=",
        "logger",
        "paths.",
        "tags=",
        "dataset.residence=",
        "dataset.reading=",
    ),
    *("dataset.data_dir=", "dataset.download="),
)

"""Checks of the settings that say where the columns of a dataset are and how they are read."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from stemlab.config.validation_messages import Origin
from stemlab.errors import StemlabError


def check_residence(config: Mapping[str, Any], origin: Origin) -> None:
    """Refuse a place for the columns in a run on the CPU, which has one memory."""
    residence = config["dataset"].get("residence", "auto")
    if residence != "auto" and config["trainer"]["accelerator"] == "cpu":
        key = "dataset.residence"
        raise StemlabError(
            f"{key}={residence} ({origin(key)}) needs a GPU, but trainer={config['trainer']['name']} has "
            f"trainer.accelerator=cpu ({origin('trainer.accelerator')}): leave it at auto, or set trainer=gpu."
        )


def check_reading(dataset: Mapping[str, Any], origin: Origin) -> None:
    """Refuse columns that are read in blocks and copied to the GPU."""
    if dataset.get("reading") == "blocks" and dataset.get("residence") == "device":
        raise StemlabError(
            f"dataset.reading=blocks ({origin('dataset.reading')}) reads columns that are larger than memory, but "
            f"dataset.residence=device ({origin('dataset.residence')}) copies them to the GPU: choose one of them."
        )

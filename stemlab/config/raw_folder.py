"""Raw folder of a dataset: the synthetic sample replaces missing raw files in the default folder only."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

SAMPLED_FOLDERS = ("aliexpress", "kuairand", "ml100k", "ml1m", "tenrec", "tiktok")
"""Folders in ``<paths.data_dir>/raw`` that the options of datasets with a sample name as their ``raw_dir``."""


def dataset_settings(config: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return ``config['dataset']``, with source ``raw`` instead of ``auto`` if ``raw_dir`` is not the default folder.

    A user who names a folder has raw files; without this rule a misspelled path would train on the sample.

    Args:
        config: validated, plain config with the sections ``dataset`` and ``paths``.
    """
    dataset: Mapping[str, Any] = config["dataset"]
    if dataset.get("source") != "auto" or "data_dir" not in config.get("paths", {}):
        return dataset
    folder, default = Path(dataset["raw_dir"]).absolute(), Path(config["paths"]["data_dir"]).absolute() / "raw"
    if folder.parent == default and folder.name in SAMPLED_FOLDERS:
        return dataset
    return {**dataset, "source": "raw"}

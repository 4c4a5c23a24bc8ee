"""A finished run, rebuilt from its checkpoint: config, dataset, network with its weights."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from stemlab.data.prepare.manifest import find_damage
from stemlab.errors import StemlabError
from stemlab.nn.init import SkipInit
from stemlab.runs.build import DataModule, Module, build_datamodule, build_module
from stemlab.runs.checkpoint_io import SavedRun, read_checkpoint


class RebuiltRun:
    """Everything of a run that evaluation and prediction need.

    Args:
        chosen: config of the command: ``ckpt``, ``trainer``, and what differs on this machine (``raw_dir``,
            ``data_dir``, ``batch_size``; None means as recorded).
    """

    def __init__(self, chosen: Mapping[str, Any]) -> None:
        self.saved: SavedRun = read_checkpoint(chosen["ckpt"])
        self.config: dict[str, Any] = merge_config(self.saved.config, chosen)
        self.datamodule: DataModule = build_datamodule(self.config)

    def prepare(self) -> None:
        """Find or make the prepared dataset.

        Raises:
            StemlabError: it is not the one the checkpoint was trained on.
        """
        known = self._original_prepared_dir()
        if known is not None:
            self.datamodule.adopt(known)
        directory = self.datamodule.prepare()
        found = self.datamodule.manifest["fingerprint"]
        if found != self.saved.fingerprint:
            raise StemlabError(
                f"{self.saved.path} was trained on prepared dataset {self.saved.fingerprint[:12]}, but {directory} is "
                f"{found[:12]}: the raw files differ; set raw_dir and data_dir to those of the training."
            )

    def _original_prepared_dir(self) -> Path | None:
        """The prepared directory of the training, whole; it may outlive the raw files."""
        prepared = Path(self.config["dataset"]["data_dir"]) / "prepared"
        found = prepared.glob(f"*-{self.saved.fingerprint[:12]}")
        return next((path for path in found if find_damage(path, self.saved.fingerprint) is None), None)

    def module(self) -> Module:
        """Return the module with the checkpoint's weights (after ``prepare``), which stay mapped to the file."""
        with SkipInit():
            module = build_module(self.config, self.datamodule)
        try:
            module.net.load_state_dict(self.saved.weights, assign=True)
        except RuntimeError as error:
            told = " ".join(str(error).split())[:300]
            raise StemlabError(f"the weights in {self.saved.path} do not fit its own config ({told}).") from None
        return module

    @property
    def directory(self) -> Path | None:
        """The run directory around ``checkpoints/``, if the checkpoint still lies in one."""
        folder = self.saved.path.parent
        return folder.parent if folder.name == "checkpoints" else None


def merge_config(saved: Mapping[str, Any], chosen: Mapping[str, Any]) -> dict[str, Any]:
    """Return the run's config with what the command chose; None keeps what is recorded.

    A run that was trained on a GPU is rebuilt on the processor where the command says nothing and there is no GPU.
    """
    config = copy.deepcopy(dict(saved))
    kept = {key: config["trainer"].get(key) for key, value in chosen["trainer"].items() if value is None}
    config["trainer"] = {**chosen["trainer"], **kept}
    if "accelerator" in kept and not torch.cuda.is_available():
        config["trainer"]["accelerator"] = "cpu"
    for key in ("raw_dir", "data_dir"):
        if chosen[key] is not None:
            config["dataset"][key] = str(Path(chosen[key]).absolute())
    if chosen.get("batch_size") is not None:
        config["dataset"]["eval_batch_size"] = chosen["batch_size"]
    return config

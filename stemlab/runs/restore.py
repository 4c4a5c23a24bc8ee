"""Rebuild a run from its checkpoint: config, dataset, network with its weights."""

from __future__ import annotations

import copy
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from stemlab.config.instantiate import validate_as
from stemlab.config.limits import LIMIT_KEYS
from stemlab.config.trainer_schema import SavedTrainerConfig
from stemlab.data.prepare.manifest import find_damage
from stemlab.errors import StemlabError
from stemlab.nn.init import SkipInit
from stemlab.runs.build import DataModule, Module, build_datamodule, build_module
from stemlab.runs.checkpoint_io import SavedRun, read_checkpoint
from stemlab.runs.trust import check_packages, check_recorded_config


class RebuiltRun:
    """A run rebuilt for evaluation or prediction.

    The checkpoint may come from a stranger: only allowed classes are built, and nothing is written to the directories
    that it names. They are only searched for the prepared dataset and the raw files of the training. A dataset that is
    missing there is prepared in the ``data_dir`` of the command, else in its ``paths.data_dir``.

    Args:
        chosen: config of the command: ``ckpt``, ``allow``, ``paths``, ``trainer``, and settings that replace those of
            the training (``raw_dir``, ``data_dir``, ``batch_size``; None keeps the value of the training).

    Raises:
        StemlabError: the checkpoint cannot be read, names a class that is not allowed, or has an invalid config.
    """

    def __init__(self, chosen: Mapping[str, Any]) -> None:
        check_packages(chosen["allow"])
        self.saved: SavedRun = read_checkpoint(chosen["ckpt"])
        check_recorded_config(self.saved.config, chosen["allow"], self.saved.path)
        with _invalid_config_refused(self.saved.path):
            self.config: dict[str, Any] = merge_config(self.saved.config, chosen)
            validate_as(SavedTrainerConfig, self.config["trainer"], key="trainer")
            dataset = self.config["dataset"]
            self._searched_data_dir = str(dataset["data_dir"])
            if chosen["data_dir"] is None:
                dataset["data_dir"] = chosen["paths"]["data_dir"]
            if chosen["raw_dir"] is None and "download" in dataset:
                dataset["download"] = False  # it would write into the recorded raw_dir
            self.datamodule: DataModule = build_datamodule(self.config)

    def prepare(self) -> None:
        """Open the prepared dataset of the training, or prepare it.

        Raises:
            StemlabError: its fingerprint differs from that in the checkpoint.
        """
        original = self._original_prepared_dir()
        if original is not None:
            self.datamodule.adopt(original)
        directory = self.datamodule.prepare()
        fingerprint = self.datamodule.manifest["fingerprint"]
        if fingerprint != self.saved.fingerprint:
            raise StemlabError(
                f"{self.saved.path} was trained on prepared dataset {self.saved.fingerprint[:12]}, but {directory} is "
                f"{fingerprint[:12]}: the raw files differ, or another version of stemlab prepared them; set raw_dir "
                "and data_dir to those of the training."
            )

    def _original_prepared_dir(self) -> Path | None:
        """Return the undamaged prepared directory of the training, if it exists; the raw files may be gone."""
        fingerprint = self.saved.fingerprint
        if not re.fullmatch("[0-9a-f]+", fingerprint):
            raise StemlabError(f"{self.saved.path}: {fingerprint!r} in it is not the fingerprint of a dataset.")
        for data_dir in (self._searched_data_dir, self.config["dataset"]["data_dir"]):
            for path in (Path(data_dir) / "prepared").glob(f"*-{fingerprint[:12]}"):
                if find_damage(path, fingerprint) is None:
                    return path
        return None

    def module(self) -> Module:
        """Return the module with the weights of the checkpoint, memory-mapped; call ``prepare`` first.

        Raises:
            StemlabError: the weights do not fit the network of the config.
        """
        with SkipInit(), _invalid_config_refused(self.saved.path):
            module = build_module(self.config, self.datamodule)
        try:
            module.net.load_state_dict(self.saved.weights, assign=True)
        except RuntimeError as error:
            reason = " ".join(str(error).split())[:300]
            raise StemlabError(f"the weights in {self.saved.path} do not fit its config ({reason}).") from None
        return module

    @property
    def directory(self) -> Path | None:
        """The run directory that contains ``checkpoints/``; None if the checkpoint is elsewhere."""
        folder = self.saved.path.parent
        return folder.parent if folder.name == "checkpoints" else None


@contextmanager
def _invalid_config_refused(path: Path) -> Iterator[None]:
    """Name the checkpoint in errors of its config, which was not validated as the command line is."""
    try:
        yield
    except StemlabError as error:
        raise StemlabError(f"{path}: {error}") from None
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        reason = f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
        raise StemlabError(f"{path}: a run cannot be built from its config ({reason}).") from error


def merge_config(saved: Mapping[str, Any], chosen: Mapping[str, Any]) -> dict[str, Any]:
    """Return the config of the run with the settings of the command; None keeps the value of the run.

    Limits on the number of batches are never those of the run: a quick training is evaluated on all samples.
    If the command does not set the accelerator and no GPU is available, a run trained on a GPU is rebuilt on the CPU.

    Args:
        saved: config of the run.
        chosen: config of the command.
    """
    config = copy.deepcopy(dict(saved))
    unset = [key for key, value in chosen["trainer"].items() if value is None and key not in LIMIT_KEYS]
    kept = {key: config["trainer"].get(key) for key in unset}
    config["trainer"] = {**chosen["trainer"], **kept}
    if "accelerator" in kept and not torch.cuda.is_available():
        config["trainer"]["accelerator"] = "cpu"
    for key in ("raw_dir", "data_dir"):
        if chosen[key] is not None:
            config["dataset"][key] = str(Path(chosen[key]).absolute())
    if chosen.get("batch_size") is not None:
        config["dataset"]["eval_batch_size"] = chosen["batch_size"]
    return config

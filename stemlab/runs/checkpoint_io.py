"""Read and write checkpoint files."""

from __future__ import annotations

import os
import pickle
import re
import zipfile
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from pytorch_lightning.plugins import TorchCheckpointIO

from stemlab.data.io.output_file import write_failure
from stemlab.data.io.zip_checksums import find_zip_damage
from stemlab.data.spec import DatasetSpec, SequenceSpec, spec_from_dict
from stemlab.errors import StemlabError

_NET_PREFIX, _ZIP = "net.", b"PK\x03\x04"
# of a run directory, its checkpoints, one dataset and model, one dataset or sweep, and all runs
_CHECKPOINT_PATTERNS = ("checkpoints/best.ckpt", "best.ckpt", *(f"{'*/' * n}checkpoints/best.ckpt" for n in (1, 2, 3)))


class AtomicCheckpointIO(TorchCheckpointIO):
    """Write to a temporary file in the same directory and rename it, so that a killed run leaves no partial checkpoint.

    Lightning writes to the system's temporary directory; on another file system its rename becomes a copy.
    """

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None) -> None:
        """Write a checkpoint atomically.

        Raises:
            StemlabError: the file cannot be written; an earlier checkpoint of that name is kept.
        """
        path = Path(path)
        part = path.with_suffix(".part")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with part.open("wb") as file:
                torch.save(checkpoint, file)
                file.flush()
                os.fsync(file.fileno())
            part.replace(path)
        except (OSError, RuntimeError) as error:  # PyTorch raises RuntimeError when its zip file cannot be written
            with suppress(OSError):
                part.unlink(missing_ok=True)
            raise StemlabError(
                f"{path} cannot be written ({write_failure(error)}): free disk space, or change hydra.run.dir."
            ) from error


@dataclass(frozen=True, slots=True)
class SavedRun:
    """Contents of a checkpoint: the run and its weights.

    Attributes:
        path: the checkpoint file.
        config: resolved config of the run.
        spec: names and sizes of its dataset.
        fingerprint: fingerprint of the prepared dataset of the training.
        epoch: index of the epoch after which, or in which, it was written; -1 without training.
        weights: state dict of the network.
        stage1: record entry about the first stage, for a second stage; else empty.
        step: training steps until then.
        mid_epoch: whether it was written within the epoch, after an interruption.
    """

    path: Path
    config: dict[str, Any]
    spec: DatasetSpec | SequenceSpec
    fingerprint: str
    epoch: int
    weights: dict[str, torch.Tensor]
    stage1: dict[str, Any] = field(default_factory=dict)
    step: int = 0
    mid_epoch: bool = False

    @property
    def epochs(self) -> int:
        """Number of epochs trained before it was written: the number of the epoch in files and labels."""
        return self.epoch + 1


def read_checkpoint(path: str | Path) -> SavedRun:
    """Read a checkpoint written by ``stemlab.train``; no code in it is executed.

    The file is memory-mapped: tensors that are not used, such as the moments of the optimiser, cost no memory.
    Checkpoints are replaced by renaming, so a mapped file does not change. Its checksums are verified once per process.

    Raises:
        StemlabError: the file is missing, is not a checkpoint, is damaged, or was not written by stemlab.
    """
    path = Path(path).absolute()
    require_checkpoint_file(path)
    require_undamaged(path)
    try:
        content = torch.load(path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path))
    except Exception as error:
        raise StemlabError(f"{path} cannot be read as a checkpoint ({_reason(error, path)}).") from None
    return _saved_run(path, content)


def require_checkpoint_file(path: Path) -> None:
    """Raise StemlabError if there is no such file, naming checkpoints that exist."""
    if path.is_dir():
        raise StemlabError(f"{path} is a directory{_checkpoint_below(path)}")
    if not path.exists():
        raise StemlabError(f"there is no checkpoint {path}{_list_other_checkpoints(path)}")


def require_undamaged(path: Path) -> None:
    """Raise StemlabError if a checkpoint has other bytes than those that were written.

    A file in the old format of PyTorch has no checksums.
    """
    with suppress(OSError):  # a file that cannot be read has other messages
        if damage := find_zip_damage(path):
            raise StemlabError(f"{path} is damaged ({damage}): copy it again, or use another checkpoint.")


def _reason(error: Exception, path: Path) -> str:
    """Return why a file is no checkpoint, without PyTorch's advice to read untrusted files with ``weights_only``."""
    if isinstance(error, PermissionError | MemoryError):
        return error.strerror or "no permission" if isinstance(error, PermissionError) else "not enough memory"
    if isinstance(error, pickle.UnpicklingError) and (found := re.search(r"GLOBAL (\S+)", str(error))):
        return f"it holds code: {found[1]}"
    with suppress(OSError), path.open("rb") as file:
        begin = file.read(len(_ZIP))
        if not begin:
            return "it is empty"
        if begin == _ZIP:
            return "it is incomplete or damaged: copy it again"
    return "it is a file of another kind, or damaged"


def _checkpoint_below(folder: Path) -> str:
    """Return the end of an error message: a checkpoint of the run, or of the newest run, in a directory."""
    for pattern in _CHECKPOINT_PATTERNS:
        if found := [path for path in folder.glob(pattern) if path.is_file()]:
            newest = max(found, key=lambda path: (path.stat().st_mtime, path))
            return f": give a file, such as {newest}."
    return " without checkpoints of stemlab.train: give a checkpoint file."


def _list_other_checkpoints(path: Path) -> str:
    """Return the end of an error message: the checkpoints in the same directory."""
    others = sorted(p.name for p in path.parent.glob("*.ckpt")) if path.parent.is_dir() else []
    return f"; the directory contains {', '.join(others)}." if others else "."


def _saved_run(path: Path, content: Any) -> SavedRun:
    saved = content.get("hyper_parameters", {}) if isinstance(content, dict) else {}
    missing = [key for key in ("config", "spec", "fingerprint") if key not in saved]
    if missing:
        raise StemlabError(f"{path} was not written by stemlab.train: it lacks the keys {', '.join(missing)}.")
    try:
        state = content["state_dict"].items()
        weights = {name.removeprefix(_NET_PREFIX): value for name, value in state if name.startswith(_NET_PREFIX)}
        spec, stage1 = spec_from_dict(saved["spec"]), dict(saved.get("stage1", {}))
        step = int(content.get("global_step", 1))
        epoch = int(content["epoch"]) if step else -1
        config, fingerprint = dict(saved["config"]), str(saved["fingerprint"])
        return SavedRun(path, config, spec, fingerprint, epoch, weights, stage1, step, _is_mid_epoch(content))
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise StemlabError(f"{path} was not written by stemlab.train ({type(error).__name__}: {error}).") from error


def _is_mid_epoch(content: Mapping[str, Any]) -> bool:
    """Return whether Lightning's counters say that an epoch was started and not processed."""
    progress = content.get("loops", {}).get("fit_loop", {}).get("epoch_progress", {}).get("current", {})
    return int(progress.get("started", 0)) > int(progress.get("processed", 0))

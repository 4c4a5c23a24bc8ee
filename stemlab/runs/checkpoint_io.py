"""Reading and writing checkpoint files."""

from __future__ import annotations

import os
import zipfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from pytorch_lightning.plugins import TorchCheckpointIO

from stemlab.data.spec import DatasetSpec, SequenceSpec, spec_from_dict
from stemlab.errors import StemlabError

_NET_PREFIX = "net."


class AtomicCheckpointIO(TorchCheckpointIO):
    """Write beside the file and move into place, so that a killed run never leaves half a checkpoint.

    Lightning's own way goes through the system's temporary directory, where moving into place is copying whenever that
    is another file system.
    """

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None) -> None:
        """Write a checkpoint in one step."""
        path = Path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_suffix(".part")
        with part.open("wb") as file:
            torch.save(checkpoint, file)
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)


@dataclass(frozen=True, slots=True)
class SavedRun:
    """What a checkpoint says about its run.

    Attributes:
        path: the checkpoint file.
        config: resolved config of the run.
        spec: names and sizes of its dataset.
        fingerprint: of the prepared dataset it was trained on.
        epoch: epoch after which it was written, from 0.
        weights: the network's state dict.
        stage1: what the record says about the first stage of a second one; empty for other runs.
    """

    path: Path
    config: dict[str, Any]
    spec: DatasetSpec | SequenceSpec
    fingerprint: str
    epoch: int
    weights: dict[str, torch.Tensor]
    stage1: dict[str, Any] = field(default_factory=dict)


def read_checkpoint(path: str | Path) -> SavedRun:
    """Read a checkpoint written by ``stemlab.train``; nothing in it is executed.

    Its weights are mapped, not read: what nobody looks at, such as the optimiser's moments, twice as large as the
    weights, takes neither time nor memory. Checkpoints are replaced by renaming, so a mapped one stays as it was.

    Raises:
        StemlabError: the file is missing, is no checkpoint, or was not written by stemlab.
    """
    path = Path(path).absolute()
    if path.is_dir():
        raise StemlabError(f"ckpt={path} is a directory: name a file, such as {path / 'checkpoints' / 'best.ckpt'}.")
    if not path.exists():
        raise StemlabError(f"there is no checkpoint {path}{_list_other_checkpoints(path)}")
    try:
        content = torch.load(path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path))
    except Exception as error:
        reason = str(error).strip().splitlines()[0][:200] if str(error).strip() else type(error).__name__
        raise StemlabError(f"{path} cannot be read as a checkpoint ({reason}).") from None
    return _saved_run(path, content)


def _list_other_checkpoints(path: Path) -> str:
    """Tell which checkpoints there are in the same directory."""
    others = sorted(p.name for p in path.parent.glob("*.ckpt")) if path.parent.is_dir() else []
    return f"; beside it: {', '.join(others)}." if others else "."


def _saved_run(path: Path, content: Any) -> SavedRun:
    told = content.get("hyper_parameters", {}) if isinstance(content, dict) else {}
    missing = [key for key in ("config", "spec", "fingerprint") if key not in told]
    if missing:
        raise StemlabError(f"{path} was not written by stemlab.train (it has no {' and no '.join(missing)}).")
    weights = {k.removeprefix(_NET_PREFIX): v for k, v in content["state_dict"].items() if k.startswith(_NET_PREFIX)}
    spec, stage1 = spec_from_dict(told["spec"]), told.get("stage1", {})
    return SavedRun(path, told["config"], spec, told["fingerprint"], int(content["epoch"]), weights, stage1)

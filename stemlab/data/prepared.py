"""Base datamodule of a prepared directory, which is found or built once and described by its manifest."""

from __future__ import annotations

from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any, Generic

import torch
from pytorch_lightning import LightningDataModule

from stemlab.data.blocks import StepBlock
from stemlab.data.loader import Batch
from stemlab.data.prepare.manifest import find_changed_file, read_manifest
from stemlab.data.spec import spec_from_dict
from stemlab.errors import StemlabError


class PreparedDataModule(LightningDataModule, ABC, Generic[Batch]):
    """LightningDataModule whose columns are in a prepared directory.

    A subclass implements ``build``. A datamodule has no state in checkpoints: it is rebuilt from the resolved config
    that they contain.

    Args:
        name: dataset name as typed on the command line.
    """

    name: str

    def __init__(self, name: str) -> None:
        super().__init__()
        self.name = name
        self._directory: Path | None = None
        self._manifest: dict[str, Any] = {}

    @abstractmethod
    def build(self) -> Path:
        """Return the prepared directory; build it unless one with the same fingerprint exists.

        Called once per process. Must be atomic and stateless, because several processes may call it at the same time.
        """

    def prepare(self) -> Path:
        """Find or build the prepared directory, read its manifest and return the directory."""
        if self._directory is None:
            self.adopt(self.build())
        return self.directory

    def adopt(self, directory: Path, verify: bool = True) -> None:
        """Use an existing prepared directory without reading raw files.

        Args:
            directory: the prepared directory.
            verify: whether the files are compared with the checksums in the manifest.

        Raises:
            StemlabError: the directory has no manifest, or a file is missing or was changed.
        """
        manifest = read_manifest(directory)
        damage = find_changed_file(directory, manifest) if verify else None
        if damage:
            raise StemlabError(f"{directory} is damaged ({damage}); delete the folder and prepare again.")
        try:
            spec_from_dict(manifest["spec"])
        except (AttributeError, KeyError, TypeError, ValueError):
            raise StemlabError(
                f"{directory}/manifest.json has no valid 'spec'; delete the folder and prepare again."
            ) from None
        self._manifest, self._directory = manifest, directory

    @property
    def directory(self) -> Path:
        """The prepared directory.

        Raises:
            StemlabError: ``prepare()`` was not called.
        """
        if self._directory is None:
            raise StemlabError(f"dataset {self.name!r} is not prepared yet: call prepare() before using it.")
        return self._directory

    @property
    def manifest(self) -> dict[str, Any]:
        """The manifest (after ``prepare()``)."""
        return self._manifest if self.directory else {}

    def prepare_data(self) -> None:
        """Lightning hook; runs on one process per node."""
        self.prepare()

    def transfer_batch_to_device(
        self, batch: Batch | StepBlock[Batch], device: torch.device, dataloader_idx: int
    ) -> Batch | StepBlock[Batch]:
        """Copy asynchronously to a GPU: its batches are in page-locked (pinned) memory. Blocks are there already."""
        del dataloader_idx
        return batch if isinstance(batch, StepBlock) else batch.to(device, non_blocking=device.type == "cuda")

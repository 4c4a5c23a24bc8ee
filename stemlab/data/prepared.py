"""Prepared directory of a datamodule: found or built once, described by its manifest."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from stemlab.data.prepare.manifest import find_changed_file, read_manifest
from stemlab.data.spec import spec_from_dict
from stemlab.errors import StemlabError


class PreparedDirectory:
    """Prepared directory of a dataset and its manifest.

    Args:
        name: dataset name as typed on the command line.
        build: returns the prepared directory; builds it unless one with the same fingerprint exists.
    """

    def __init__(self, name: str, build: Callable[[], Path]) -> None:
        self._name, self._build = name, build
        self._directory: Path | None = None
        self._manifest: dict[str, Any] = {}

    def prepare(self) -> Path:
        """Find or build the directory, read its manifest and return the directory."""
        if self._directory is None:
            self.adopt(self._build())
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
            raise StemlabError(f"dataset {self._name!r} is not prepared yet: call prepare() before using it.")
        return self._directory

    @property
    def manifest(self) -> dict[str, Any]:
        """The manifest (after ``prepare()``)."""
        return self._manifest if self.directory else {}

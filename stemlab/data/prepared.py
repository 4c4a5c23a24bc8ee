"""The prepared directory behind a datamodule: found or made once, then known by its manifest."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from stemlab.data.prepare.manifest import read_manifest
from stemlab.errors import StemlabError


class PreparedDirectory:
    """A dataset's prepared directory and what its manifest says.

    Args:
        name: dataset name as typed on the command line.
        build: returns the prepared directory, an existing one with the right fingerprint or one made now.
    """

    def __init__(self, name: str, build: Callable[[], Path]) -> None:
        self._name, self._build = name, build
        self._directory: Path | None = None
        self._manifest: dict[str, Any] = {}

    def prepare(self) -> Path:
        """Make or find the directory, read its manifest and return it."""
        if self._directory is None:
            self.adopt(self._build())
        return self.directory

    def adopt(self, directory: Path) -> None:
        """Use a directory that was prepared before, without looking for raw files."""
        self._manifest = read_manifest(directory)
        self._directory = directory

    @property
    def directory(self) -> Path:
        """The prepared directory.

        Raises:
            StemlabError: before ``prepare()``.
        """
        if self._directory is None:
            raise StemlabError(f"dataset {self._name!r} is not prepared yet: call prepare() before using it.")
        return self._directory

    @property
    def manifest(self) -> dict[str, Any]:
        """Everything the prepared dataset says about itself (after ``prepare()``)."""
        return self._manifest if self.directory else {}

"""Manifest of a prepared dataset: contents, origin, and sizes of its files."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from stemlab.errors import StemlabError

NAME = "manifest.json"
FORMAT = 1  # version of the prepared directory; increase it when the same inputs are stored differently
_BLOCK = 1 << 22


def read_manifest(directory: Path) -> dict[str, Any]:
    """Return the manifest of a prepared directory.

    Raises:
        StemlabError: the manifest is missing or damaged.
    """
    path = directory / NAME
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise StemlabError(f"{directory} is not a prepared dataset ({error}); run stemlab.prepare.") from error
    if not isinstance(manifest, dict):
        raise StemlabError(f"{path} is not a manifest; delete the folder and prepare again.")
    return manifest


def write_manifest(directory: Path, manifest: Mapping[str, Any]) -> None:
    """Write ``manifest`` with the sizes of all other files in the directory; call it last."""
    files = {str(p.relative_to(directory)): p.stat().st_size for p in sorted(directory.rglob("*")) if p.is_file()}
    files.pop(NAME, None)
    text = json.dumps({**manifest, "files": files}, indent=2, ensure_ascii=False)
    (directory / NAME).write_text(text + "\n", encoding="utf-8")


def find_damage(directory: Path, fingerprint: str) -> str | None:
    """Return a short description of the damage of a prepared directory, or ``None`` if it is complete."""
    try:
        manifest = read_manifest(directory)
    except StemlabError as error:
        return str(error)
    if manifest.get("fingerprint") != fingerprint:
        return "its manifest has other settings"
    for name, size in manifest.get("files", {}).items():
        path = directory / name
        if not path.resolve().is_relative_to(directory.resolve()):
            return f"{name} is not a file in it"
        found = path.stat().st_size if path.is_file() else None
        if found != size:
            return f"{name} is missing" if found is None else f"{name} has {found} of {size} bytes"
    return None


def fingerprint_of(settings: Mapping[str, Any]) -> str:
    """Return the hexadecimal SHA-256 of all settings that determine a prepared dataset (plain JSON values)."""
    text = json.dumps({"format": FORMAT, **settings}, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def describe_file(path: Path, cache: Path, advance: Callable[[int], None] = lambda size: None) -> dict[str, Any]:
    """Return name, size and SHA-256 of a raw file.

    Args:
        path: the raw file.
        cache: JSON file of known hashes by path, size and modification time; a known file is not read again.
        advance: called with the number of bytes hashed (with the file size if the hash is known).
    """
    state = path.stat()
    key = f"{path.resolve()}:{state.st_size}:{state.st_mtime_ns}"
    known = _read_cache(cache)
    if key in known:
        advance(state.st_size)
    else:
        known = {**_read_cache(cache), key: sha256_of(path, advance)}
        _replace_text(cache, json.dumps(known, indent=1))
    return {"name": path.name, "size": state.st_size, "sha256": known[key]}


def sha256_of(path: Path, advance: Callable[[int], None]) -> str:
    """Return the hexadecimal SHA-256 of a file; call ``advance`` with the size of each block."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(_BLOCK):
            digest.update(block)
            advance(len(block))
    return digest.hexdigest()


def _read_cache(cache: Path) -> dict[str, str]:
    try:
        known = json.loads(cache.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return known if isinstance(known, dict) else {}


def _replace_text(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f"{path.name}.{os.getpid()}")
    part.write_text(text, encoding="utf-8")
    os.replace(part, path)

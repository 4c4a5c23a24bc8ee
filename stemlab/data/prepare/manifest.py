"""Manifest of a prepared dataset: contents, origin, sizes and checksums of its files.

Checksums find damage and accidental changes (CRC-32); they do not protect against a forger.
"""

from __future__ import annotations

import hashlib
import json
import os
import zlib
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

from stemlab.errors import StemlabError

NAME = "manifest.json"
FORMAT = 1  # version of the prepared directory; increase it when the same inputs are stored differently
_BLOCK = 1 << 22
_CHECKSUM = "checksum"  # of the manifest itself, without this entry
_CHECKSUM_BLOCK = 1 << 24
_verified: set[tuple[str, int, int, int, int]] = set()  # files that this process has verified


def read_manifest(directory: Path) -> dict[str, Any]:
    """Return the manifest of a prepared directory.

    Raises:
        StemlabError: the manifest is missing, damaged or changed.
    """
    path = directory / NAME
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise StemlabError(f"{directory} is not a prepared dataset ({error}); run stemlab.prepare.") from error
    if not isinstance(manifest, dict):
        raise StemlabError(f"{path} is not a manifest; delete the folder and prepare again.")
    if _CHECKSUM in manifest and manifest[_CHECKSUM] != _manifest_checksum(manifest):
        raise StemlabError(f"{path} was changed: its checksum differs; delete the folder and prepare again.")
    return manifest


def write_manifest(directory: Path, manifest: Mapping[str, Any]) -> None:
    """Write ``manifest`` with sizes and checksums of all other files in the directory; call it last."""
    paths = [path for path in sorted(directory.rglob("*")) if path.is_file() and path != directory / NAME]
    files = {str(path.relative_to(directory)): path.stat().st_size for path in paths}
    checksums = {str(path.relative_to(directory)): crc32_of(path) for path in paths}
    # from JSON, because its checksum is compared with that of the file as it is read
    plain = json.loads(json.dumps({**manifest, "files": files, "crc32": checksums}))
    text = json.dumps({**plain, _CHECKSUM: _manifest_checksum(plain)}, indent=2, ensure_ascii=False)
    (directory / NAME).write_text(text + "\n", encoding="utf-8")


def _manifest_checksum(manifest: Mapping[str, Any]) -> int:
    kept = {key: value for key, value in manifest.items() if key != _CHECKSUM}
    return zlib.crc32(json.dumps(kept, sort_keys=True).encode())


def find_damage(directory: Path, fingerprint: str) -> str | None:
    """Return a short description of the damage of a prepared directory, or ``None`` if it is complete."""
    try:
        manifest = read_manifest(directory)
    except StemlabError as error:
        return str(error)
    if manifest.get("fingerprint") != fingerprint:
        return "its manifest has other settings"
    if _CHECKSUM not in manifest:
        return "its manifest has no checksums"
    return find_changed_file(directory, manifest)


def find_changed_file(directory: Path, manifest: Mapping[str, Any]) -> str | None:
    """Return a description of the first file that is not as ``write_manifest`` found it, or ``None``.

    The bytes of a file are read once per process, as long as its size and modification time stay the same.
    """
    checksums = manifest.get("crc32", {})
    for name, size in manifest.get("files", {}).items():
        path = directory / name
        if not path.resolve().is_relative_to(directory.resolve()):
            return f"{name} is not a file in it"
        try:
            state = path.stat()
        except OSError:
            return f"{name} is missing"
        if state.st_size != size:
            return f"{name} has {state.st_size} of {size} bytes"
        key = (str(path.absolute()), state.st_ino, state.st_size, state.st_mtime_ns, checksums.get(name, 0))
        if name in checksums and key not in _verified:
            if crc32_of(path) != checksums[name]:
                return f"{name} was changed: its checksum differs"
            _verified.add(key)
    return None


def crc32_of(path: Path) -> int:
    """Return a checksum of a file: the CRC-32 of the CRC-32 of its blocks, which threads compute in parallel."""
    size = path.stat().st_size
    with path.open("rb") as file, ThreadPoolExecutor(max_workers=min(8, os.cpu_count() or 1)) as pool:

        def block(start: int) -> bytes:
            return zlib.crc32(os.pread(file.fileno(), _CHECKSUM_BLOCK, start)).to_bytes(4, "little")

        return zlib.crc32(b"".join(pool.map(block, range(0, size, _CHECKSUM_BLOCK))))


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
        with suppress(OSError):  # without write access the file is hashed each time
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

"""Refuse texts that are not paths: an empty text would be the current directory."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from stemlab.config.validation_messages import Origin
from stemlab.errors import StemlabError

PATH_KEYS = frozenset(
    [
        *("data_dir", "raw_dir", "raw_file", "meta_file", "item_file", "path", "config"),
        *("logs", "ckpt", "ckpt_path", "resume_from", "init_from", "input", "output", "vectors", "interests"),
        *("item_vectors", "index_path", "run", "runs", "reference", "copies", "update", "categories"),
    ]
)
"""Names of settings, in any group, that are a path or a list of paths."""


def check_paths(config: Mapping[str, Any], origin: Origin) -> None:
    """Refuse empty paths and paths with a null character; ``paths`` has types of its own.

    Raises:
        StemlabError: the first such setting.
    """
    for key, value in _paths({name: value for name, value in config.items() if name != "paths"}, ""):
        if not value.strip():
            raise StemlabError(f"{key}={value!r} ({origin(key)}) is an empty path: give a path, or leave the key out.")
        if "\0" in value:
            raise StemlabError(f"{key}={value!r} ({origin(key)}) contains a null character, which no path may have.")


def check_dataset_name(config: Mapping[str, Any], origin: Origin) -> None:
    """Refuse a name that is no folder name, before the run directory is named after it.

    Raises:
        StemlabError: the name of the dataset is empty, contains a slash or begins with a dot.
    """
    dataset = config.get("dataset")
    name = dataset.get("name") if isinstance(dataset, Mapping) else None
    if isinstance(name, str) and (
        not name.strip() or name.startswith(".") or any(letter in name for letter in "/\\\0")
    ):
        raise StemlabError(
            f"dataset.name={name!r} ({origin('dataset.name')}) is no name of a folder: it must not be empty, contain a "
            "slash or begin with a dot."
        )


def check_job_folders(run_dir: object, sweep_dir: object) -> None:
    """Refuse an empty ``hydra.run.dir`` or ``hydra.sweep.dir``: Hydra would write into the current directory.

    Raises:
        StemlabError: one of them is empty.
    """
    for key, value in (("hydra.run.dir", run_dir), ("hydra.sweep.dir", sweep_dir)):
        if value is None or not str(value).strip():
            raise StemlabError(f"{key} (set on the command line) is an empty path: give a path, or leave the key out.")


def check_typed_folders(words: Sequence[str], swept: bool) -> None:
    """Refuse a folder of a single run in a sweep, and the other way round, which Hydra would not read.

    Raises:
        StemlabError: such a setting is on the command line.
    """
    unread, read = ("hydra.run.dir", "hydra.sweep.dir") if swept else ("hydra.sweep.", "hydra.run.dir")
    for word in words:
        if word.lstrip("+").startswith(unread):
            where = "in a sweep" if swept else "without a sweep (-m)"
            raise StemlabError(f"{word} is not read {where}: set {read}, or leave it out.")


def _paths(values: Mapping[str, Any], prefix: str) -> Iterator[tuple[str, str]]:
    """Yield the key and text of every path."""
    for name, value in values.items():
        key = f"{prefix}{name}"
        if isinstance(value, Mapping):
            yield from _paths(value, f"{key}.")
        elif name in PATH_KEYS:
            items = value if isinstance(value, list) else [value]
            yield from ((key, item) for item in items if isinstance(item, str))

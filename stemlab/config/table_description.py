"""``dataset.config=rows.stemlab.yaml``: what the user's own file says about his table.

``conf/dataset/table.yaml`` asks for each of its keys with ``${described:min_count,10}``: the file's value, or else the
default. So what is typed wins over the file, and the file over the defaults, by Hydra's own rules.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from omegaconf import DictConfig, OmegaConf

from stemlab.errors import StemlabError, nearest

KEY = "dataset.config"
RESOLVER = "described"
KNOWN = (
    *("name", "separator", "columns", "missing", "fields", "numericals", "scaling", "tasks", "scenario", "scenarios"),
    *("group", "time", "split_column", "split", "min_count", "shared", "on_bad_row"),
)
SPLIT = ("rule", "test_size", "valid_size", "seed", "carve", "valid_from", "test_from")


def read_description(path: Path) -> dict[str, Any]:
    """Return the keys of a description, all of them known.

    Raises:
        StemlabError: there is no such file, it is no YAML, or it has a key that is not a setting.
    """
    try:
        found = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError:
        raise StemlabError(
            f"{KEY}={path}: there is no such file; without {KEY}, stemlab.prepare drafts one beside the table."
        ) from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        mark = getattr(error, "problem_mark", None)
        where = f", line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        raise StemlabError(f"{path}{where}: this is not YAML ({getattr(error, 'problem', error)}).") from None
    if not isinstance(found, dict):
        raise StemlabError(f"{path} must hold keys and values, such as tasks: [click].")
    _check_keys(path, found, KNOWN, "")
    if "split" in found:
        if not isinstance(found["split"], dict):
            raise StemlabError(f"{path}: split must be a group of settings, such as rule: time.")
        _check_keys(path, found["split"], SPLIT, "split.")
    return found


def describes(path: Path, key: str) -> bool:
    """Whether a description sets ``tasks`` or ``split.rule`` (a key below ``dataset``); False where it is broken."""
    try:
        return _within(read_description(path), key) is not None
    except StemlabError:
        return False


def _check_keys(path: Path, found: Mapping[Any, Any], known: Sequence[str], prefix: str) -> None:
    for key in found:
        if key not in known:
            hint = nearest(str(key), list(known)) or f" Known here: {', '.join(known)}."
            raise StemlabError(f"{path}: {prefix}{key} is not a setting.{hint}")


def _within(found: Any, key: str) -> Any:
    for part in key.split("."):
        found = found.get(part) if isinstance(found, dict) else None
    return found


def _described(key: str, default: Any, *, _root_: DictConfig) -> Any:
    """What OmegaConf calls for ``${described:key,default}``."""
    path = OmegaConf.select(_root_, KEY)
    found = None if path is None else _within(read_description(Path(path)), key)
    return default if found is None else found


OmegaConf.register_new_resolver(RESOLVER, _described, replace=True)

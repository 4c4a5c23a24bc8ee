"""Table description (``dataset.config=rows.stemlab.yaml``): the user's YAML file about the columns of a table.

``conf/dataset/table.yaml`` reads each key with ``${table_config:min_count,10}``: the value of the file, or else the
default. The command line overrides the file by Hydra's own rules.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from omegaconf import DictConfig, OmegaConf

from stemlab.config.dotted_keys import value_at
from stemlab.errors import StemlabError, nearest

CONFIG_KEY = "dataset.config"
RESOLVER = "table_config"
TABLE_KEYS = (
    *("name", "separator", "columns", "missing", "fields", "numericals", "scaling", "tasks", "scenario", "scenarios"),
    *("group", "time", "split_column", "split", "min_count", "shared", "on_bad_row", "labels", "weight"),
    *("derived", "multivalued", "sequences"),
)
SPLIT_KEYS = ("rule", "test_size", "valid_size", "seed", "carve", "valid_from", "test_from")


def read_description(path: Path) -> dict[str, Any]:
    """Read the settings of a table description.

    Raises:
        StemlabError: the file cannot be read, is not YAML, has an unknown key or an interpolation ``${...}``.
    """
    try:
        found = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (IsADirectoryError, PermissionError) as error:
        raise StemlabError(f"{CONFIG_KEY}={path} cannot be read: {error.strerror}.") from None
    except OSError:
        raise StemlabError(
            f"{CONFIG_KEY}={path}: no such file; stemlab.prepare without this key drafts one in the current directory."
        ) from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        mark = getattr(error, "problem_mark", None)
        where = f", line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        raise StemlabError(f"{path}{where}: not valid YAML ({getattr(error, 'problem', error)}).") from None
    if not isinstance(found, dict):
        raise StemlabError(f"{path} must contain keys and values, such as tasks: [click].")
    _check_keys(path, found, TABLE_KEYS, "")
    _refuse_interpolations(path, found, "")
    if "split" in found:
        if not isinstance(found["split"], dict):
            raise StemlabError(f"{path}: split must be a mapping, such as rule: time.")
        _check_keys(path, found["split"], SPLIT_KEYS, "split.")
    return found


def sets_key(path: Path, key: str) -> bool:
    """Return whether a description sets a key such as ``split.rule``; False if the file cannot be read."""
    try:
        return value_at(read_description(path), key) is not None
    except StemlabError:
        return False


def _check_keys(path: Path, found: Mapping[Any, Any], known: Sequence[str], prefix: str) -> None:
    for key in found:
        if key not in known:
            hint = nearest(str(key), list(known)) or f" Known settings: {', '.join(known)}."
            raise StemlabError(f"{path}: {prefix}{key} is not a setting.{hint}")


def _refuse_interpolations(path: Path, value: Any, key: str) -> None:
    """Raise StemlabError for ``${...}``: a description is data, and must not read the config or the environment."""
    if isinstance(value, Mapping):
        for name, item in value.items():
            _refuse_interpolations(path, name, key)
            _refuse_interpolations(path, item, f"{key}.{name}" if key else str(name))
    elif isinstance(value, list):
        for item in value:
            _refuse_interpolations(path, item, key)
    elif isinstance(value, str) and "${" in value:
        raise StemlabError(f"{path}: {key} has {value!r}: ${{...}} is not resolved in this file; write the value.")


def _resolve(key: str, default: Any, *, _root_: DictConfig) -> Any:
    """Resolve ``${table_config:key,default}``."""
    path = OmegaConf.select(_root_, CONFIG_KEY)
    if not isinstance(path, str | None):
        raise StemlabError(f"{CONFIG_KEY}={path} must be the path of a YAML file.")
    found = None if path is None else value_at(read_description(Path(path)), key)
    value = default if found is None else found
    return OmegaConf.create(value) if isinstance(value, list | dict) else value  # --resolve needs nodes


OmegaConf.register_new_resolver(RESOLVER, _resolve, replace=True)

"""Check a config that was read from a file (checkpoint or record) before anything is built from it.

Such a file may come from an untrusted source. Its config may name classes of stemlab only, or of packages that the
user names on the command line (``allow=[mypkg]``). The check happens before a module is imported. See docs/security.md.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from pytorch_lightning import LightningDataModule
from torch import nn

from stemlab.config.instantiate import TARGET, import_target
from stemlab.config.own_balancing import KEY as OWN_BALANCING
from stemlab.config.own_callbacks import KEY as OWN_CALLBACKS
from stemlab.config.own_metrics import KEY as OWN_METRICS
from stemlab.errors import StemlabError

_CLASS_NAME = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)+", re.ASCII)
_PACKAGE_NAME = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*", re.ASCII)
_FILE_NAME = re.compile(r"(?!\.)[^/\\\0]{1,200}")
_OWN_PARTS = (f"{OWN_CALLBACKS}.", f"{OWN_METRICS}.")
_NODES: dict[str, tuple[str, type[Any], str]] = {
    "dataset": ("stemlab.data", LightningDataModule, "a LightningDataModule"),
    "model.net": ("stemlab.models", nn.Module, "an nn.Module"),
}
"""Node with a class -> the package of stemlab, the required base class and its description."""


def check_recorded_config(config: Any, allow: Sequence[str], source: Path) -> None:
    """Check that a recorded config is plain data that names allowed classes only.

    Args:
        config: the config, as read from the file.
        allow: packages besides stemlab whose classes may be built.
        source: the file, for error messages.

    Raises:
        StemlabError: a value that is no plain data, a class that is not allowed, or a dataset name that is no file
            name.
    """
    for key, value in _leaves(config, ""):
        if not isinstance(value, str | int | float | bool | None):
            raise StemlabError(f"{source}: {key} in its config is a {type(value).__name__}, not plain data.")
        node, _, name = key.rpartition(".")
        if name == TARGET and (node == OWN_BALANCING or (node.startswith(_OWN_PARTS) and node.count(".") == 2)):
            _check_own_part(str(value), node, allow, source)
        elif name == TARGET and node not in _NODES:
            raise StemlabError(f"{source}: its config has {key}={value!r}, but no class is built there.")
    for node in _NODES:
        _check_class(_at(config, node, source), node, allow, source)
    if not isinstance(_at(config, "seed", source), int):
        raise StemlabError(f"{source}: seed={config['seed']!r} in its config is not an integer.")
    dataset = _at(config, "dataset.name", source)
    if not isinstance(dataset, str) or not _FILE_NAME.fullmatch(dataset):
        raise StemlabError(f"{source}: dataset.name={dataset!r} in its config is not a file name.")


def check_packages(allow: Sequence[str]) -> None:
    """Check the setting ``allow``.

    Raises:
        StemlabError: an entry is not the name of a package.
    """
    for name in allow:
        if not _PACKAGE_NAME.fullmatch(name):
            raise StemlabError(f"allow=[{name}]: {name!r} is not the name of a package, such as mypkg or mypkg.models.")


def _check_own_part(target: str, node: str, allow: Sequence[str], source: Path) -> None:
    """Check the class of a callback, a metric or a balancing method: it must belong to an allowed package."""
    where = f"{source}: its config has {node}.{TARGET}={target!r}"
    if not _CLASS_NAME.fullmatch(target):
        raise StemlabError(f"{where}, which is not the full name of a class.")
    if not any(_is_inside(target, name) for name in allow):
        raise StemlabError(f"{where}; if you trust its code, add allow=[{target.partition('.')[0]}].")


def _check_class(values: Any, node: str, allow: Sequence[str], source: Path) -> None:
    target = values.get(TARGET) if isinstance(values, Mapping) else None
    where = f"{source}: its config has {node}.{TARGET}={target!r}"
    if not isinstance(target, str) or not _CLASS_NAME.fullmatch(target):
        raise StemlabError(f"{where}, which is not the full name of a class.")
    own, base, description = _NODES[node]
    outside = any(_is_inside(target, name) for name in allow)
    if not outside and not _is_inside(target, own):
        package = target.partition(".")[0]
        advice = "" if package == "stemlab" else f"; if you trust its code, add allow=[{package}]"
        raise StemlabError(f"{where}, which is not a class of {own}{advice}.")
    try:
        found = import_target(values, key=node)
    except StemlabError as error:
        raise StemlabError(f"{source}: {error}") from None
    defined_inside = isinstance(found, type) and (outside or _is_inside(found.__module__, own))
    if not defined_inside or not issubclass(found, base):
        raise StemlabError(f"{where}, which is not {description} of {'an allowed package' if outside else own}.")


def _is_inside(name: str, package: str) -> bool:
    return f"{name}.".startswith(f"{package}.")


def _at(config: Any, key: str, source: Path) -> Any:
    """Return a value of the config by its dotted key.

    Raises:
        StemlabError: there is none.
    """
    value = config
    for part in key.split("."):
        if not isinstance(value, Mapping) or part not in value:
            raise StemlabError(f"{source}: its config lacks {key}.")
        value = value[part]
    return value


def _leaves(value: Any, key: str) -> Iterator[tuple[str, Any]]:
    """Yield (dotted key, value) for every value that is neither a mapping nor a list."""
    if isinstance(value, dict):
        for name, item in value.items():
            yield from _leaves(item, f"{key}.{name}" if key else str(name))
    elif isinstance(value, list | tuple):
        for number, item in enumerate(value):
            yield from _leaves(item, f"{key}.{number}")
    else:
        yield key, value

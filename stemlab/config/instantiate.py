"""Build the object a config node names, its settings checked against the constructor's keyword-only parameters.

A node is a plain dict with ``_target_: package.module.Class``. Positional parameters of the class are given when the
program runs (field sizes, task names) and cannot be configured; every keyword-only parameter is a setting.
"""

from __future__ import annotations

import importlib
import inspect
import json
from collections.abc import Hashable, Mapping
from functools import cache
from typing import Any, TypeVar, cast, get_type_hints

from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError, create_model

from stemlab.config.signature import read_parameters
from stemlab.config.validation_messages import Origin, first_sentence, told_by_file
from stemlab.errors import StemlabError

T = TypeVar("T")
TARGET = "_target_"
STRICT = ConfigDict(extra="forbid", strict=True, arbitrary_types_allowed=True, allow_inf_nan=False)


def instantiate(node: Mapping[str, Any], *runtime_args: Any, key: str = "", origin: Origin = told_by_file) -> Any:
    """Import the target, check the settings, and call it.

    Args:
        node: plain dict with ``_target_`` and settings.
        runtime_args: the positional arguments.
        key: where the node stands in the config (``model.net``), for the sentence of an error.
        origin: says which file set a key, for the same sentence.

    Raises:
        StemlabError: unknown target or setting, wrong type, impossible value.
    """
    target = import_target(node, key=key, origin=origin)
    return target(*runtime_args, **typed_settings(node, key=key, origin=origin))


def import_target(node: Mapping[str, Any], *, key: str = "", origin: Origin = told_by_file) -> Any:
    """Return the class that ``node['_target_']`` names."""
    path = node.get(TARGET)
    where = f"{key}.{TARGET}" if key else TARGET
    if not isinstance(path, str) or "." not in path:
        raise StemlabError(f"{where}={path!r} ({origin(where)}) must be the full name of a class.")
    module_name, _, name = path.rpartition(".")
    try:
        return getattr(importlib.import_module(module_name), name)
    except AttributeError:
        raise StemlabError(f"{where}={path} ({origin(where)}): {module_name} has no {name!r}.") from None
    except ModuleNotFoundError as error:
        if error.name is None or not f"{module_name}.".startswith(f"{error.name}."):
            raise
        raise StemlabError(f"{where}={path} ({origin(where)}): there is no module {error.name!r}.") from None


def typed_settings(node: Mapping[str, Any], *, key: str = "", origin: Origin = told_by_file) -> dict[str, Any]:
    """Return the node's settings as the types of the constructor (nested dataclasses are built)."""
    model = settings_model(import_target(node, key=key, origin=origin))
    settings = {name: value for name, value in node.items() if name != TARGET}
    checked = typed(model, settings, key=key, origin=origin)
    return {name: getattr(checked, name) for name in settings}


def typed(model: type[T], values: Mapping[str, Any], *, key: str = "", origin: Origin = told_by_file) -> T:
    """Return the values as the model (a pydantic model or dataclass), or tell the first thing that is wrong.

    They pass through JSON because pydantic is strict there about what matters (no number from a text, no 0/1 from a
    boolean) and free about what does not (a list may become a tuple, a dict a dataclass).

    Raises:
        StemlabError: unknown key, wrong type, impossible value.
    """
    try:
        return cast(
            T, _adapter(cast(Hashable, model)).validate_json(json.dumps(dict(values), default=str), strict=True)
        )
    except ValidationError as error:
        raise StemlabError(first_sentence(error, model, values, key, origin)) from None


@cache
def _adapter(model: Any) -> TypeAdapter[Any]:
    return TypeAdapter(model)


def check_settings(node: Mapping[str, Any], *, key: str = "", origin: Origin = told_by_file) -> None:
    """Check a node's settings, without importing its target where the source alone tells their types."""
    path = node.get(TARGET)
    parameters = read_parameters(path) if isinstance(path, str) else None
    if parameters is None:
        typed_settings(node, key=key, origin=origin)
        return
    settings = {name: value for name, value in node.items() if name != TARGET}
    typed(read_model(str(path)), settings, key=key, origin=origin)


@cache
def read_model(path: str) -> type[BaseModel]:
    """Return the pydantic model of a class whose source can be read (``stemlab.config.signature``)."""
    parameters = read_parameters(path) or {}
    fields: dict[str, Any] = {
        name: (annotation, ... if required else None) for name, (annotation, required) in parameters.items()
    }
    return create_model(path.rpartition(".")[2], __config__=STRICT, **fields)


def default_settings(target: Any) -> dict[str, Any]:
    """Return a class's settings that need not be given, with the values they have then."""
    parameters = inspect.signature(target).parameters.values()
    optional = [parameter for parameter in parameters if parameter.default is not inspect.Parameter.empty]
    return {parameter.name: parameter.default for parameter in optional if parameter.kind is parameter.KEYWORD_ONLY}


@cache
def settings_model(target: Any) -> type[BaseModel]:
    """Return the pydantic model of a class's keyword-only constructor parameters."""
    constructor = target.__init__ if inspect.isclass(target) else target
    hints = get_type_hints(constructor, include_extras=True)
    fields: dict[str, Any] = {}
    for name, parameter in inspect.signature(constructor).parameters.items():
        if parameter.kind is not inspect.Parameter.KEYWORD_ONLY:
            continue
        default = ... if parameter.default is inspect.Parameter.empty else parameter.default
        fields[name] = (hints[name], default)
    return create_model(target.__name__, __config__=STRICT, **fields)

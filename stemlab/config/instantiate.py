"""Build the object of a config node after checking its settings against the constructor.

A node is a plain dict with ``_target_: package.module.Class``. Every keyword-only parameter of the class is a setting.
Positional parameters (field sizes, task names) are only known at run time and cannot be configured.
"""

from __future__ import annotations

import importlib
import inspect
import json
from collections.abc import Hashable, Mapping
from contextlib import nullcontext
from functools import cache
from types import ModuleType
from typing import Any, TypeVar, cast, get_type_hints

from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError, create_model

from stemlab.config.own_errors import is_own_module, remember_own_module
from stemlab.config.own_words import search_current_folder
from stemlab.config.signature import read_parameters
from stemlab.config.validation_messages import Origin, unknown_origin, validation_message
from stemlab.errors import StemlabError, named_in_errors

Model = TypeVar("Model")
TARGET = "_target_"
_STRICT = ConfigDict(extra="forbid", strict=True, arbitrary_types_allowed=True, allow_inf_nan=False)


def instantiate(node: Mapping[str, Any], *runtime_args: Any, key: str = "", origin: Origin = unknown_origin) -> Any:
    """Import the target, check the settings, and call it.

    Args:
        node: plain dict with ``_target_`` and settings.
        runtime_args: positional arguments.
        key: key of the node in the config (``model.net``), for error messages.
        origin: returns where a key was set, for error messages.

    Raises:
        StemlabError: unknown target or setting, wrong type, impossible value.
    """
    target = import_target(node, key=key, origin=origin)
    settings = typed_settings(node, key=key, origin=origin)
    with named_in_errors(key) if key and is_own_module(target.__module__) else nullcontext():
        return target(*runtime_args, **settings)


def import_target(node: Mapping[str, Any], *, key: str = "", origin: Origin = unknown_origin) -> Any:
    """Return the class named by ``node['_target_']``.

    Raises:
        StemlabError: it is not the full name of a class, or there is no such module or class.
    """
    path = node.get(TARGET)
    where = f"{key}.{TARGET}" if key else TARGET
    if not isinstance(path, str) or "." not in path:
        raise StemlabError(
            f"{where}={path!r} ({origin(where)}) must be the full name of a class (package.module.Class)."
        )
    module_name, _, name = path.rpartition(".")
    remember_own_module(module_name)
    try:
        return getattr(_import_module(module_name), name)
    except AttributeError:
        raise StemlabError(f"{where}={path} ({origin(where)}): {module_name} has no {name!r}.") from None
    except ModuleNotFoundError as error:
        if error.name is None or not f"{module_name}.".startswith(f"{error.name}."):
            raise
        raise StemlabError(f"{where}={path} ({origin(where)}): there is no module {error.name!r}.") from None


def _import_module(name: str) -> ModuleType:
    """Import a module; search it in the current folder, too, which is not on the path of a console script."""
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name != name.partition(".")[0] or not search_current_folder():
            raise
        return importlib.import_module(name)


def typed_settings(node: Mapping[str, Any], *, key: str = "", origin: Origin = unknown_origin) -> dict[str, Any]:
    """Return the node's settings converted to the types of the constructor, nested dataclasses included."""
    model = settings_model(import_target(node, key=key, origin=origin))
    settings = {name: value for name, value in node.items() if name != TARGET}
    checked = validate_as(model, settings, key=key, origin=origin)
    return {name: getattr(checked, name) for name in settings}


def validate_as(
    model: type[Model], values: Mapping[str, Any], *, key: str = "", origin: Origin = unknown_origin
) -> Model:
    """Return the values as an instance of the model (a pydantic model or dataclass).

    The values are validated as JSON. For JSON, pydantic's strict mode converts lists to tuples and dicts to
    dataclasses, but neither strings to numbers nor booleans to integers.

    Raises:
        StemlabError: unknown key, wrong type, impossible value.
    """
    try:
        return cast(
            Model, _adapter(cast(Hashable, model)).validate_json(json.dumps(dict(values), default=str), strict=True)
        )
    except ValidationError as error:
        raise StemlabError(validation_message(error, model, values, key, origin)) from None


@cache
def _adapter(model: Any) -> TypeAdapter[Any]:
    return TypeAdapter(model)


def check_settings(node: Mapping[str, Any], *, key: str = "", origin: Origin = unknown_origin) -> None:
    """Check a node's settings, without importing the class if its source code is sufficient."""
    settings = {name: value for name, value in node.items() if name != TARGET}
    validate_as(node_model(node, key=key, origin=origin), settings, key=key, origin=origin)


def node_model(node: Mapping[str, Any], *, key: str = "", origin: Origin = unknown_origin) -> type[BaseModel]:
    """Return the pydantic model of a node's settings; the class is imported only if its source is not sufficient."""
    path = node.get(TARGET)
    if isinstance(path, str) and read_parameters(path) is not None:
        return source_model(path)
    return settings_model(import_target(node, key=key, origin=origin))


@cache
def source_model(path: str) -> type[BaseModel]:
    """Return the pydantic model of a class from its source code (``stemlab.config.signature``)."""
    parameters = read_parameters(path) or {}
    fields: dict[str, Any] = {
        name: (annotation, ... if required else None) for name, (annotation, required) in parameters.items()
    }
    return create_model(path.rpartition(".")[2], __config__=_STRICT, **fields)


def default_settings(target: Any) -> dict[str, Any]:
    """Return the optional settings of a class with their default values."""
    return dict(_defaults(target))


@cache
def _defaults(target: Any) -> dict[str, Any]:
    parameters = inspect.signature(target).parameters.values()
    optional = [parameter for parameter in parameters if parameter.default is not inspect.Parameter.empty]
    return {parameter.name: parameter.default for parameter in optional if parameter.kind is parameter.KEYWORD_ONLY}


@cache
def settings_model(target: Any) -> type[BaseModel]:
    """Return the pydantic model of a class's keyword-only constructor parameters.

    Raises:
        StemlabError: a type of a parameter is not imported in the module of the class.
    """
    constructor = target.__init__ if inspect.isclass(target) else target
    try:
        hints = get_type_hints(constructor, include_extras=True)
    except NameError as error:
        name = f"{target.__module__}.{target.__qualname__}"
        raise StemlabError(f"{name}: a type of its constructor cannot be read ({error}); import it there.") from None
    fields: dict[str, Any] = {}
    for name, parameter in inspect.signature(constructor).parameters.items():
        if parameter.kind is not inspect.Parameter.KEYWORD_ONLY:
            continue
        default = ... if parameter.default is inspect.Parameter.empty else parameter.default
        fields[name] = (hints.get(name, Any), default)
    return create_model(target.__name__, __config__=_STRICT, **fields)

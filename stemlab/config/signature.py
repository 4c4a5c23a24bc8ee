"""Read the typed settings of a class from its source code, because importing torch or Lightning takes seconds.

Supported are classes of this package whose annotations use names from typing, pydantic and ``stemlab.types``, aliases
(``GateRule = Literal[...]``) and settings classes (``SplitRule``), whose modules are imported. Other classes are
imported. A test compares both ways for every file of ``conf/``.
"""

from __future__ import annotations

import ast
import builtins
import importlib
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

_PACKAGE = "stemlab"
_ROOT = Path(__file__).resolve().parents[2]
_LIGHT_MODULES = ("typing", "pathlib", "collections.abc", "pydantic", "stemlab.types")

Parameters = dict[str, tuple[Any, bool]]
"""Name of a setting -> its type and whether it is required."""


class NotReadableError(Exception):
    """The settings of a class cannot be read from its source code alone."""


@cache
def read_parameters(path: str) -> Parameters | None:
    """Return the keyword-only constructor parameters of a class, or ``None`` if its module must be imported.

    Args:
        path: full name of the class, ``stemlab.models.multitask.stem.STEM``.
    """
    module, _, name = path.rpartition(".")
    try:
        return _class_parameters(module, name)
    except NotReadableError:
        return None


def _class_parameters(module: str, name: str) -> Parameters:
    node = _definition(module, name)
    if not isinstance(node, ast.ClassDef):
        raise NotReadableError(f"{module}.{name}")
    for statement in node.body:
        if isinstance(statement, ast.FunctionDef) and statement.name == "__init__":
            arguments = statement.args
            pairs = zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True)
            return {argument.arg: (_value(module, argument.annotation), default is None) for argument, default in pairs}
    if len(node.bases) != 1 or not isinstance(node.bases[0], ast.Name):
        raise NotReadableError(f"{module}.{name}")
    return _class_parameters(*_defining_module(module, node.bases[0].id))


def class_docstrings(path: str) -> str:
    """Return the docstrings of a class and of its base classes in this package, those of the base classes first."""
    module, _, name = path.rpartition(".")
    try:
        node = _definition(module, name)
        if isinstance(node, ast.ImportFrom):
            return class_docstrings(".".join(_defining_module(module, name)))
        if not isinstance(node, ast.ClassDef):
            return ""
        bases = [".".join(_defining_module(module, base.id)) for base in node.bases if isinstance(base, ast.Name)]
        return "\n".join([*map(class_docstrings, bases), ast.get_docstring(node) or ""])
    except NotReadableError:
        return ""


@cache
def _statements(module: str) -> tuple[ast.stmt, ...]:
    file = _ROOT.joinpath(*module.split(".")).with_suffix(".py")
    if not module.startswith(f"{_PACKAGE}.") or not file.is_file():
        raise NotReadableError(module)
    return tuple(ast.parse(file.read_text(encoding="utf-8")).body)


def _definition(module: str, name: str) -> ast.stmt | None:
    """Return the class, alias or import that defines ``name`` in a module."""
    return next((statement for statement in _statements(module) if name in _names(statement)), None)


def _names(statement: ast.stmt) -> Iterator[str]:
    if isinstance(statement, ast.ClassDef):
        yield statement.name
    elif isinstance(statement, ast.Assign):
        yield from (target.id for target in statement.targets if isinstance(target, ast.Name))
    elif isinstance(statement, ast.ImportFrom):
        yield from (alias.asname or alias.name for alias in statement.names)


def _defining_module(module: str, name: str) -> tuple[str, str]:
    """Return the module and the original name behind ``name`` in a module."""
    statement = _definition(module, name)
    if not isinstance(statement, ast.ImportFrom):
        return module, name
    original = next(alias.name for alias in statement.names if (alias.asname or alias.name) == name)
    if statement.module is None or statement.level:
        raise NotReadableError(f"{module}.{name}")
    return statement.module, original


def _value(module: str, expression: ast.expr | None) -> Any:
    """Evaluate an annotation with the names of its module."""
    if expression is None:
        raise NotReadableError(module)
    names = {node.id for node in ast.walk(expression) if isinstance(node, ast.Name)}
    known = {name: _resolve_name(module, name) for name in names}
    return eval(compile(ast.Expression(expression), module, "eval"), {"__builtins__": {}}, known)


def _resolve_name(module: str, name: str) -> Any:
    statement = _definition(module, name)
    if statement is None and hasattr(builtins, name):
        return getattr(builtins, name)
    if isinstance(statement, ast.Assign):
        return _value(module, statement.value)
    source, original = _defining_module(module, name)
    if isinstance(statement, ast.ClassDef) or source in _LIGHT_MODULES:
        return getattr(importlib.import_module(source), original)
    if source.startswith(f"{_PACKAGE}."):
        return _resolve_name(source, original)
    raise NotReadableError(f"{module}.{name}")

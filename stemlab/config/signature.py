"""The typed settings of a class read from its source, because importing torch or Lightning takes seconds.

Only classes of this package are read so, and only what their annotations need: names from typing, pydantic and
``stemlab.types``, aliases (``GateRule = Literal[...]``), and settings classes (``SplitRule``), whose modules are
imported. Whatever does not fit is left to a real import; a test compares both ways for every file of ``conf/``.
"""

from __future__ import annotations

import ast
import builtins
import importlib
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

PACKAGE = "stemlab"
ROOT = Path(__file__).resolve().parents[2]
LIGHT = ("typing", "pathlib", "collections.abc", "pydantic", "stemlab.types")

Parameters = dict[str, tuple[Any, bool]]
"""Name of a setting -> its type, and whether it must be given."""


class NotReadableError(Exception):
    """The source alone does not tell."""


def read_parameters(path: str) -> Parameters | None:
    """Return the keyword-only constructor parameters of a class, or None where its module must be imported.

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
    return _class_parameters(*_home(module, node.bases[0].id))


@cache
def _statements(module: str) -> tuple[ast.stmt, ...]:
    file = ROOT.joinpath(*module.split(".")).with_suffix(".py")
    if not module.startswith(f"{PACKAGE}.") or not file.is_file():
        raise NotReadableError(module)
    return tuple(ast.parse(file.read_text(encoding="utf-8")).body)


def _definition(module: str, name: str) -> ast.stmt | None:
    """The class, alias or import that gives ``name`` its meaning in a module."""
    return next((statement for statement in _statements(module) if name in _names(statement)), None)


def _names(statement: ast.stmt) -> Iterator[str]:
    if isinstance(statement, ast.ClassDef):
        yield statement.name
    elif isinstance(statement, ast.Assign):
        yield from (target.id for target in statement.targets if isinstance(target, ast.Name))
    elif isinstance(statement, ast.ImportFrom):
        yield from (alias.asname or alias.name for alias in statement.names)


def _home(module: str, name: str) -> tuple[str, str]:
    """Where a name was imported from (the module itself where it is defined there)."""
    statement = _definition(module, name)
    if not isinstance(statement, ast.ImportFrom):
        return module, name
    original = next(alias.name for alias in statement.names if (alias.asname or alias.name) == name)
    if statement.module is None or statement.level:
        raise NotReadableError(f"{module}.{name}")
    return statement.module, original


def _value(module: str, expression: ast.expr | None) -> Any:
    """Evaluate an annotation in the light of its module."""
    if expression is None:
        raise NotReadableError(module)
    names = {node.id for node in ast.walk(expression) if isinstance(node, ast.Name)}
    known = {name: _meaning(module, name) for name in names}
    return eval(compile(ast.Expression(expression), module, "eval"), {"__builtins__": {}}, known)


def _meaning(module: str, name: str) -> Any:
    statement = _definition(module, name)
    if statement is None and hasattr(builtins, name):
        return getattr(builtins, name)
    if isinstance(statement, ast.Assign):
        return _value(module, statement.value)
    home, original = _home(module, name)
    if isinstance(statement, ast.ClassDef) or home in LIGHT:
        return getattr(importlib.import_module(home), original)
    if home.startswith(f"{PACKAGE}."):
        return _meaning(home, original)
    raise NotReadableError(f"{module}.{name}")

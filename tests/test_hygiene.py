"""Style rules that a test can check: short files, plain names, no leftovers."""

import ast
import re
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PYTHON = sorted(path for folder in ("stemlab", "scripts", "tests") for path in (ROOT / folder).rglob("*.py"))
PACKAGE = [path for path in PYTHON if path.is_relative_to(ROOT / "stemlab")]


def name(path):
    return path.relative_to(ROOT).as_posix()


@cache
def parsed(path):
    return ast.parse(path.read_text())


def test_no_file_reaches_300_lines():
    long = {name(path): count for path in PYTHON if (count := len(path.read_text().splitlines())) >= 300}
    assert long == {}


def test_no_function_of_the_package_is_longer_than_60_lines():
    functions = (ast.FunctionDef, ast.AsyncFunctionDef)
    long = [
        f"{name(path)}:{node.name}"
        for path in PACKAGE
        for node in ast.walk(parsed(path))
        if isinstance(node, functions) and node.end_lineno - node.lineno >= 60
    ]
    assert long == []


def test_no_file_is_called_utils():
    assert [name(path) for path in PYTHON if path.stem in ("utils", "util", "helpers", "misc", "common")] == []


@pytest.mark.parametrize("word", ["TO" + "DO", "FIX" + "ME", "NotImplemented" + "Error"])
def test_nothing_is_left_for_later(word):
    assert [name(path) for path in PACKAGE if re.search(rf"\b{word}\b", path.read_text())] == []


def test_tests_mirror_the_package():
    packages = {path.parent.name for path in PACKAGE if path.parent.parent == ROOT / "stemlab"}
    folders = {path.name for path in (ROOT / "tests").iterdir() if path.is_dir()}
    assert packages - folders - {"conf"} == set()


def test_dependencies_are_pinned():
    import tomllib

    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    words = [*project["dependencies"], *(word for extra in extras.values() for word in extra)]
    wanted = {re.split(r"[<>=\[]", word)[0] for word in words}
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    pinned = {line.partition("==")[0] for line in lines if line and not line.startswith("#")}
    assert wanted - {"stemlab"} == pinned


# One per command, analysis or dataset; stemlab.api has functions with the names of commands.
ROLES = {"main", "findings", "generate", "write_sample", "evaluate", "predict", "load"}


def public_names(tree):
    """Yield the public classes, functions and type aliases that a module defines."""
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            yield node.name
        elif isinstance(node, ast.Assign):
            names = [target.id for target in node.targets if isinstance(target, ast.Name)]
            yield from (alias for alias in names if not alias.isupper())


def test_a_public_name_is_defined_in_one_module():
    homes = {}
    for path in PACKAGE:
        for public in public_names(parsed(path)):
            if not public.startswith("_") and public not in ROLES:
                homes.setdefault(public, []).append(name(path))
    assert {public: paths for public, paths in homes.items() if len(paths) > 1} == {}


def test_array_types_are_defined_in_one_module():
    users = [name(path) for path in PACKAGE if re.search(r"^\w+ = .*\bNDArray\[", path.read_text(), re.MULTILINE)]
    assert users == ["stemlab/array_types.py"]

"""Messages for validation errors of pydantic: key, value, where it was set, allowed values."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, get_args, get_origin

from pydantic import ValidationError

from stemlab.config.key_hints import sibling_hint
from stemlab.errors import nearest

Origin = Callable[[str], str]
"""Config key -> ``set on the command line`` or ``set in conf/model/stem.yaml``."""

_TYPE_NAMES = {
    "int_type": "an integer",
    "int_from_float": "an integer",
    "float_type": "a number",
    "bool_type": "true or false",
    "string_type": "a string",
    "list_type": "a list",
    "tuple_type": "a list",
    "dict_type": "a mapping of settings",
    "dataclass_type": "a mapping of settings",
    "model_type": "a mapping of settings",
    "none_required": "null",
    "path_type": "a path",
    "finite_number": "a finite number",
    "int_parsing_size": "a smaller integer",
}
# Reported first: a misspelt key also makes the right key missing.
_UNKNOWN_KEY_ERRORS = ("extra_forbidden", "unexpected_keyword_argument")
_BOUNDS = {
    "greater_than": ("gt", "greater than"),
    "greater_than_equal": ("ge", "at least"),
    "less_than": ("lt", "less than"),
    "less_than_equal": ("le", "at most"),
}


def unknown_origin(key: str) -> str:
    """Return a fixed text, for callers that do not know where a key was set."""
    return "in the config"


def validation_message(error: ValidationError, model: Any, values: Mapping[str, Any], key: str, origin: Origin) -> str:
    """Return the message for the first wrong key, with the alternatives of a union in one message."""
    problems = sorted(error.errors(include_url=False), key=lambda problem: problem["type"] not in _UNKNOWN_KEY_ERRORS)
    paths = [_path(problem["loc"], values, problem["type"]) for problem in problems]
    # Every member of a union reports errors; the one with the deepest path matches the value best.
    path = max((path for path in paths if path[:1] == paths[0][:1]), key=len)
    same = [problem for problem, its_path in zip(problems, paths, strict=True) if its_path == path]
    full = ".".join([key, *path] if key else path)
    if same[0]["type"] in _UNKNOWN_KEY_ERRORS:
        return _unknown(path, model, full, origin)
    if same[0]["type"] in ("missing", "missing_argument", "missing_keyword_only_argument"):
        parent = full.rpartition(".")[0]
        return f"{full} is missing{f' from {parent} ({origin(parent)})' if parent else ''}: it is required."
    requirement = _join_or(list(dict.fromkeys(_requirement(problem, len(same) > 1) for problem in same)))
    return f"{full}={_show(_value(values, path))} ({origin(full)}) must be {requirement}.{_hint(same[0])}"


def unknown_key_message(full: str, known: Sequence[str], origin: Origin) -> str:
    """Return the message for a key that does not exist."""
    return f"{full} ({origin(full)}) is not a setting.{sibling_hint(full, known)}"


def _unknown(path: list[str], model: Any, full: str, origin: Origin) -> str:
    return unknown_key_message(full, _known_names(model, path[:-1]), origin)


def _known_names(model: Any, path: Sequence[str]) -> list[str]:
    """Return the settings of the (nested) model or dataclass at ``path``."""
    names = list(path)
    while names:
        field = model_fields(model).get(names.pop(0))
        annotation = (getattr(field, "annotation", None) or getattr(field, "type", None)) if field else None
        members = [annotation, *getattr(annotation, "__args__", ())]
        mapping = next((member for member in members if get_origin(member) is dict), None)
        if mapping is not None and names:  # the next name is a key of the mapping
            names.pop(0)
            annotation = get_args(mapping)[1]
        model = inner_model(annotation)
    return list(model_fields(model))


def model_fields(model: Any) -> dict[str, Any]:
    """Return the fields of a pydantic model or dataclass by name; empty for another type."""
    for attribute in ("model_fields", "__pydantic_fields__", "__dataclass_fields__"):
        if hasattr(model, attribute):
            return dict(getattr(model, attribute))
    return {}


def inner_model(annotation: Any) -> Any:
    """Return the member of a union that has named settings."""
    members = [annotation, *getattr(annotation, "__args__", ())]
    return next((member for member in members if model_fields(member)), None)


def _path(location: Sequence[int | str], values: Any, kind: str) -> list[str]:
    """Return the config path of an error location, to which pydantic adds the names of union members."""
    path: list[str] = []
    for part in location:
        if _within(values, part):
            values = values[part]
            path.append(str(part))
        elif kind.startswith("missing") and part == location[-1]:
            path.append(str(part))
    return path


def _within(values: Any, part: int | str) -> bool:
    if isinstance(values, Mapping):
        return part in values
    return isinstance(values, list) and isinstance(part, int) and part < len(values)


def _value(values: Any, path: Sequence[str]) -> Any:
    for part in path:
        values = values[int(part)] if isinstance(values, list) else values[part]
    return values


def _requirement(problem: Mapping[str, Any], one_of_several: bool) -> str:
    kind, context = problem["type"], problem.get("ctx", {})
    if kind in _BOUNDS:
        name, words = _BOUNDS[kind]
        bound = context[name] if isinstance(context[name], int) else f"{context[name]:g}"
        return f"{'a number ' if one_of_several else ''}{words} {bound}"
    if kind == "literal_error":
        expected = _expected(problem)
        return f"one of {', '.join(expected)}" if len(expected) > 1 else expected[0]
    if kind == "too_short":
        return f"a list of at least {context['min_length']} value{'s' if context['min_length'] > 1 else ''}"
    if kind == "too_long":
        return f"a list of at most {context['max_length']} value{'s' if context['max_length'] > 1 else ''}"
    if kind == "value_error":
        return str(problem["msg"]).removeprefix("Value error, ")
    return _TYPE_NAMES.get(kind, str(problem["msg"]))


def _expected(problem: Mapping[str, Any]) -> list[str]:
    return str(problem["ctx"]["expected"]).replace(" or ", ", ").replace("'", "").split(", ")


def _hint(problem: Mapping[str, Any]) -> str:
    return nearest(str(problem["input"]), _expected(problem)) if problem["type"] == "literal_error" else ""


def _join_or(words: list[str]) -> str:
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} or {words[-1]}"


def _show(value: Any) -> str:
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    return repr(value) if isinstance(value, str) else str(value)

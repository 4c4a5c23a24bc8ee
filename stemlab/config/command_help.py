"""``--help``: the options of each config group, then each setting with its default, type and comment."""

from __future__ import annotations

import inspect
import textwrap
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from shutil import get_terminal_size
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from hydra.core.global_hydra import GlobalHydra
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from stemlab.config.compose import CommandLine, hydra_context, parse_overrides
from stemlab.config.composition_messages import options
from stemlab.config.instantiate import TARGET, node_model
from stemlab.config.schema import CHECKPOINT_COMMANDS, SECTIONS, section_model
from stemlab.config.setting_docs import FileComments, described_settings, read_file_comments
from stemlab.config.signature import class_docstrings
from stemlab.config.sweep import compose_base
from stemlab.config.trainer_schema import SavedTrainerConfig
from stemlab.config.validate import top_level_model
from stemlab.config.validation_messages import inner_model, model_fields
from stemlab.errors import StemlabError

_HIDDEN = ("hydra", TARGET)
_INTEGER_RANGE = 2**31 - 1
_USAGE = """\
usage: python -m stemlab.{command} [key=value ...] [group=option ...]

-m runs one job per combination of values (seed=1,2 model=mmoe,ple); --cfg job prints the composed config;
--help group=option explains the settings of that option; --hydra-help lists further arguments."""


def command_help(line: CommandLine) -> str:
    """Return the help of a command, for the options chosen on its command line.

    Raises:
        StemlabError: the command line cannot be composed.
    """
    with hydra_context(line):
        config = compose_base(line)
        comments, titles = _comments(line)
        plain = _plain(config)
        types = dict(_types(line.command, plain))
        chosen = reversed(list(config.hydra.runtime.choices.items()))
        choices = {key: value for key, value in chosen if not key.startswith("hydra")}
        groups = {group: options(line, group) for group in choices if "@" not in group}
    width = max(60, min(120, get_terminal_size().columns))
    lines = [_USAGE.format(command=line.command), "", "Groups (group=option; the option in use in brackets):"]
    for group, names in groups.items():
        shown = ", ".join(f"[{name}]" if name == choices[group] else name for name in names)
        lines += textwrap.wrap(f"{group}: {shown}", width, initial_indent="  ", subsequent_indent="      ")
    section = None
    for key, value in _leaves(plain, types):
        head = key.partition(".")[0] if "." in key else ""
        if head != section:
            section = head
            lines += ["", *textwrap.wrap(_title(head, choices, titles), width)]
        kind, text = types.get(key, ("", ""))
        lines += _entry(key, value, kind, comments.get(key) or text, width)
    return "\n".join(lines)


def _title(group: str, choices: Mapping[str, Any], titles: Mapping[str, str]) -> str:
    if not group:
        return "Settings of the command"
    option = f"{group}={choices[group]}" if choices.get(group) else group
    return f"{option}: {titles[group]}" if titles.get(group) else option


def _entry(key: str, value: Any, kind: str, comment: str, width: int) -> list[str]:
    head = f"  {key}={_shown(value)}{f'  ({kind})' if kind else ''}"
    text = textwrap.wrap(comment, width, initial_indent="      ", subsequent_indent="      ")
    return [head, *text]


def _shown(value: Any) -> str:
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, list):
        return f"[{','.join(_shown(item) for item in value)}]"
    if isinstance(value, Mapping):
        return f"{{{','.join(f'{key}:{_shown(item)}' for key, item in value.items())}}}"
    return "''" if value == "" else str(value)


def _plain(config: DictConfig) -> dict[str, Any]:
    """Return the config with interpolations resolved where they can be; a value that is required stays ``???``."""
    raw = OmegaConf.to_container(config, resolve=False)
    assert isinstance(raw, dict)

    def resolved(node: Any, path: str) -> Any:
        if isinstance(node, dict):
            return {key: resolved(item, f"{path}.{key}" if path else str(key)) for key, item in node.items()}
        if not isinstance(node, str) or "${" not in node:
            return node
        try:
            value = OmegaConf.select(config, path)
        except OmegaConfBaseException:
            return node
        return OmegaConf.to_container(value) if OmegaConf.is_config(value) else value

    return {str(key): resolved(item, str(key)) for key, item in raw.items() if key not in _HIDDEN}


def _leaves(config: Mapping[str, Any], types: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield settings: those of the command first, then those of each group. A mapping of any keys is one setting."""
    for name, value in sorted(config.items(), key=lambda item: not prefix and isinstance(item[1], dict)):
        key = f"{prefix}{name}"
        any_keys = key in types and not any(other.startswith(f"{key}.") for other in types)
        if isinstance(value, dict) and value and not any_keys:
            yield from _leaves(value, types, f"{key}.")
        elif name not in _HIDDEN:
            yield key, value


def _comments(line: CommandLine) -> tuple[dict[str, str], dict[str, str]]:
    """Return the comment of each key, and the comment that begins the file of each group's option."""
    loader: Any = GlobalHydra.instance().config_loader()
    words = [override.input_line for override in parse_overrides(line.overrides) if not override.is_sweep_override()]
    keys: dict[str, str] = {}
    titles: dict[str, str] = {}
    for default in loader.compute_defaults_list(line.command, words, RunMode.RUN).defaults:
        loaded = loader.repository.load_config(default.config_path)
        if loaded is None or default.config_path.startswith("hydra"):
            continue
        found = _file_comments(str(loaded.path).removeprefix("file://"), default.config_path)
        package = default.package or ""
        keys |= {f"{package}.{key}" if package else key: text for key, text in found.keys.items()}
        base = default.config_path.rpartition("/")[2].startswith("_")
        if package and found.title and not base:
            titles[package] = found.title
    return keys, titles


def _file_comments(folder: str, name: str) -> FileComments:
    return read_file_comments(Path(folder, name if name.endswith(".yaml") else f"{name}.yaml"))


def _types(command: str, config: Mapping[str, Any]) -> Iterator[tuple[str, tuple[str, str]]]:
    """Yield key -> (type, description) for the settings that have a typed model or belong to a class."""
    top = top_level_model(command)
    if top is not None:
        yield from _of_model(top, config, "")
    for name in SECTIONS:
        if isinstance(config.get(name), dict):
            saved = name == "trainer" and command in (*CHECKPOINT_COMMANDS, "analyze")
            yield from _of_model(SavedTrainerConfig if saved else section_model(name, config[name]), config[name], name)
    if isinstance(config.get("optim"), dict):
        from stemlab import optim

        model = optim.RankingOptimConfig if "l2" in config["optim"] else optim.OptimConfig
        yield from _of_model(model, config["optim"], "optim")
    for key, node in _nodes(config):
        try:
            yield from _of_model(node_model(node), node, key, str(node[TARGET]))
        except StemlabError:  # no such class: named when the command runs
            continue


def _nodes(config: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Yield the nodes that are built by a class."""
    analysis = config.get("analysis") or {}
    parts = (analysis.get("parts") or {}).items() if isinstance(analysis, dict) else ()
    found = {
        "dataset": config.get("dataset"),
        "model.net": (config.get("model") or {}).get("net"),
        "analysis": analysis,
        **{f"analysis.parts.{name}": part for name, part in parts},
    }
    yield from ((key, node) for key, node in found.items() if isinstance(node, dict) and node.get(TARGET))


def _of_model(
    model: Any, values: Mapping[str, Any], prefix: str, target: str | None = None
) -> Iterator[tuple[str, tuple[str, str]]]:
    docs = described_settings(_docstrings(model) if target is None else class_docstrings(target))
    for name, setting in model_fields(model).items():
        key = f"{prefix}.{name}" if prefix else name
        nested = inner_model(setting.annotation)
        if nested is not None and isinstance(values.get(name), dict):
            yield from _of_model(nested, values[name], key)
        else:
            yield key, (type_text(_with_metadata(setting)), docs.get(name, ""))


@cache
def _docstrings(model: Any) -> str:
    """Return the docstrings of a model and its base classes."""
    return "\n".join(
        inspect.getdoc(base) or "" for base in reversed(model.__mro__) if base.__module__.startswith("stemlab")
    )


def _with_metadata(setting: Any) -> Any:
    return Annotated[setting.annotation, *setting.metadata] if setting.metadata else setting.annotation


def type_text(annotation: Any) -> str:
    """Return a type in words: ``integer greater than 0``, ``gloo | nccl | null``, ``list of text``."""
    origin, members = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return f"{type_text(members[0])}{_bounds(members[1:])}"
    if origin is Literal:
        return " | ".join(map(str, members))
    if origin in (Union, UnionType):
        return " | ".join(dict.fromkeys(type_text(member) for member in members))
    if origin in (list, tuple):
        inner = [member for member in members if member is not Ellipsis]
        return f"list of {' and '.join(dict.fromkeys(type_text(member) for member in inner))}"
    names = {int: "integer", float: "number", bool: "true | false", str: "text", NoneType: "null", Path: "path"}
    return names.get(annotation, "mapping" if annotation is dict or origin is dict else "")


def _bounds(metadata: tuple[Any, ...]) -> str:
    """Return the limits of a number, from the metadata of pydantic or annotated_types."""
    words = {"gt": "greater than", "ge": "at least", "lt": "less than", "le": "at most"}
    found: list[str] = []
    for one in metadata:
        for part in (one, *getattr(one, "metadata", ())):
            found += [f"{text} {getattr(part, name):g}" for name, text in words.items() if _is_number(part, name)]
    return f" {' and '.join(dict.fromkeys(found))}" if found else ""


def _is_number(part: Any, name: str) -> bool:
    """Return whether a part of the metadata has a limit; the range of 32-bit integers is not one for a reader."""
    value = getattr(part, name, None)
    return isinstance(value, int | float) and abs(value) < _INTEGER_RANGE

"""Hydra's and OmegaConf's errors as one sentence: what was typed, what there is, the nearest valid name."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml
from hydra.errors import HydraException, MissingConfigException, OverrideParseException
from omegaconf import OmegaConf
from omegaconf.errors import InterpolationResolutionError, MissingMandatoryValue, OmegaConfBaseException

from stemlab.config.compose import CommandLine, Origins, composed, conf_folders, parsed
from stemlab.errors import StemlabError, nearest

COMPOSITION_ERRORS = (HydraException, OmegaConfBaseException, yaml.YAMLError, ValueError)
BY_RESOLVER = f"{StemlabError.__name__} raised while resolving interpolation: "
NO_KEY = re.compile(r"Could not (?:override|delete from config\.) '([^']+)'")


def sentence(error: Exception, line: CommandLine, overrides: Sequence[str]) -> str:
    """Return what is wrong with a command line that Hydra cannot compose.

    Args:
        error: one of ``COMPOSITION_ERRORS``.
        line: the command line.
        overrides: the words of the job that failed (a sweep has several jobs).
    """
    if isinstance(error, OverrideParseException):
        return _syntax(error.override)
    if isinstance(error, MissingConfigException):
        return _no_option(error, line, overrides)
    base = _base_file(line, overrides)
    if base:
        return base
    no_key = NO_KEY.search(str(error))
    if no_key:
        return _no_key(no_key.group(1), line, overrides)
    if isinstance(error, MissingMandatoryValue | InterpolationResolutionError) or error.__cause__ is not None:
        return _no_value(error if error.__cause__ is None else error.__cause__, line, overrides)
    if isinstance(error, yaml.MarkedYAMLError) and error.problem_mark is not None:
        mark = error.problem_mark
        return f"{mark.name}, line {mark.line + 1}, column {mark.column + 1}: this is not YAML ({error.problem})."
    return f"{_culprit(line, overrides)}{_first_line(error)}"


def _culprit(line: CommandLine, overrides: Sequence[str]) -> str:
    """The word without which the rest can be composed."""
    for place, word in enumerate(overrides):
        try:
            composed(line.command, [*overrides[:place], *overrides[place + 1 :]])
        except COMPOSITION_ERRORS:
            continue
        return f"{word} on the command line cannot be applied: "
    return ""


def _syntax(override: str) -> str:
    if "=" not in override:
        return f"{override!r} on the command line is not of the form key=value."
    key, _, value = override.partition("=")
    return f"the value of {key} on the command line cannot be read: {value!r}; quote it: \"{key}='{value}'\"."


def _no_option(error: MissingConfigException, line: CommandLine, overrides: Sequence[str]) -> str:
    missing = str(error.missing_cfg_file or "")
    known_groups = sorted(path.name for folder in conf_folders(line) for path in folder.iterdir() if path.is_dir())
    group = next((name for name in known_groups if missing.startswith(f"{name}/")), missing.rpartition("/")[0])
    if not group:
        names = [path.stem for folder in conf_folders(line) for path in folder.glob("*.yaml")]
        return f"there is no config {missing!r} in conf/.{_hint(missing, names)}"
    option = missing[len(group) + 1 :]
    typed = f"{group}={option}"
    who = "on the command line" if typed in overrides else f"asked for {_asked(str(error))}"
    return f"{typed} {who}: there is no conf/{missing}.yaml.{_hint(option, options(line, group))}"


def _base_file(line: CommandLine, overrides: Sequence[str]) -> str:
    """Return the message for a base file (``model=_multitask``) that was chosen as an option."""
    for word in overrides:
        group, _, option = word.partition("=")
        is_option = any((folder / group).is_dir() for folder in conf_folders(line))
        if is_option and option.rpartition("/")[2].startswith("_"):
            file = f"conf/{group}/{option}.yaml"
            return f"{word} on the command line: {file} is a base of other files.{_hint(option, options(line, group))}"
    return ""


def options(line: CommandLine, group: str) -> list[str]:
    """Names of the options of a group, with the folders inside it (``tiktok/stem``); bases (``_x.yaml``) left out."""
    found: set[str] = set()
    for folder in conf_folders(line):
        paths = (folder / group).rglob("*.yaml")
        found |= {path.relative_to(folder / group).with_suffix("").as_posix() for path in paths if path.name[0] != "_"}
    return sorted(found)


def _asked(message: str) -> str:
    by = re.match(r"In '([^']+)'", message)
    return f"in conf/{by.group(1)}.yaml" if by else "in conf/"


def _no_key(key: str, line: CommandLine, overrides: Sequence[str]) -> str:
    rest = [word for word, parse in zip(overrides, parsed(overrides), strict=True) if _group_word(parse, line)]
    try:
        config: Any = composed(line.command, rest)
    except COMPOSITION_ERRORS:
        config = OmegaConf.create()
    parent, name = "", key.split(".")[0]
    for name in key.split("."):
        if not OmegaConf.is_dict(config) or name not in config:
            break
        parent, config = f"{parent}{name}.", config._get_node(name)
    known = [str(word) for word in config if word != "hydra"] if OmegaConf.is_dict(config) else []
    if parent == "":
        known += [path.name for folder in conf_folders(line) for path in folder.iterdir() if path.is_dir()]
    if not known:
        return f"{key} (set on the command line) is not a setting: {parent.rstrip('.')} has no settings of its own."
    return f"{parent}{name} (set on the command line) is not a setting.{_hint(name, known)}"


def _group_word(override: Any, line: CommandLine) -> bool:
    return any((folder / override.key_or_group).is_dir() for folder in conf_folders(line))


def _no_value(error: BaseException, line: CommandLine, overrides: Sequence[str]) -> str:
    told = str(error).partition(BY_RESOLVER)[2].split("\n")[0]
    if told:  # what stemlab.config.table_description says of the user's own file
        return told
    key = getattr(error, "full_key", None) or ""
    if isinstance(error, MissingMandatoryValue):
        where = Origins(line.command, overrides)(key).replace("set ", "??? ", 1)
        return f"{key} has no value ({where}): write {key}=... on the command line."
    where = f"{key} ({Origins(line.command, overrides)(key)}): " if key else ""
    return f"{where}{_first_line(error)}"


def _hint(name: str, known: Sequence[str]) -> str:
    near = nearest(name, list(known)) or _same_end(name, known)
    listed = ", ".join(sorted(set(known))[:12])
    return near or (f" There is {listed}{', ...' if len(set(known)) > 12 else ''}." if known else "")


def _same_end(name: str, known: Sequence[str]) -> str:
    """``stem`` for ``tiktok/stem``: the last part alone was typed."""
    ends = [word for word in known if word.rpartition("/")[2] == name]
    return f" Did you mean {ends[0]!r}?" if ends else ""


def _first_line(error: BaseException) -> str:
    text = str(error).strip().split("\n")[0].rstrip(".")
    return f"{text}."


def ambiguous(override: str, group: bool) -> StemlabError:
    """The error for several values without ``-m``."""
    key, _, value = override.partition("=")
    otherwise = "" if group or "(" in value else f", or write {key}=[{value}] for a list"
    return StemlabError(
        f"{override} on the command line names several values: add -m to run a job for each of them{otherwise}."
    )


def existing_folder(path: str, option: str) -> Path:
    """Return the absolute folder given with ``--config-dir`` or ``--config-path``."""
    folder = Path(path).absolute()
    if not folder.is_dir():
        raise StemlabError(f"{option} {path}: there is no such folder.")
    return folder

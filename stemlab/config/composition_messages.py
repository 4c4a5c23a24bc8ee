"""Messages for errors of Hydra and OmegaConf: the argument, the known names, the nearest valid name."""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml
from hydra.errors import HydraException, MissingConfigException, OverrideParseException
from omegaconf import OmegaConf
from omegaconf.errors import InterpolationResolutionError, MissingMandatoryValue, OmegaConfBaseException

from stemlab.config.compose import CommandLine, KeyOrigins, compose_with_hydra, conf_folders, parse_overrides
from stemlab.config.key_hints import key_hint
from stemlab.config.override_text import quote_override
from stemlab.errors import StemlabError, nearest

COMPOSITION_ERRORS = (HydraException, OmegaConfBaseException, yaml.YAMLError, ValueError)
_RESOLVER_PREFIX = f"{StemlabError.__name__} raised while resolving interpolation: "
_LAUNCHERS = {"hydra/launcher/joblib": "joblib", "hydra/launcher/submitit_slurm": "slurm"}  # option -> extra
_MANDATORY = re.compile(r"Missing mandatory value: ([\w.]*\w)")
_MISSING_KEY = re.compile(r"Could not (?:override|delete from config\.) '([^']+)'")


def composition_message(error: Exception, line: CommandLine, overrides: Sequence[str]) -> str:
    """Return the message for a command line that Hydra cannot compose.

    Args:
        error: one of ``COMPOSITION_ERRORS``.
        line: the command line.
        overrides: arguments of the failed job (a sweep has several jobs).
    """
    if isinstance(error, OverrideParseException):
        return _syntax(error.override)
    if isinstance(error, MissingConfigException):
        return _no_option(error, line, overrides)
    base = _base_file(line, overrides)
    if base:
        return base
    no_key = _MISSING_KEY.search(str(error))
    if no_key:
        return _no_key(no_key.group(1), line, overrides)
    if "merge DictConfig with ListConfig" in str(error.__cause__):  # tags={a:1}
        key, _, value = str(error).rpartition("override ")[2].partition("\n")[0].partition("=")
        return f"{key}={value} (set on the command line) must be a list."
    if isinstance(error, MissingMandatoryValue | InterpolationResolutionError) or error.__cause__ is not None:
        return _no_value(error if error.__cause__ is None else error.__cause__, line, overrides)
    if isinstance(error, yaml.MarkedYAMLError) and error.problem_mark is not None:
        mark = error.problem_mark
        return f"{mark.name}, line {mark.line + 1}, column {mark.column + 1}: not valid YAML ({error.problem})."
    return f"{_culprit(line, overrides)}{_first_line(error)}"


def _culprit(line: CommandLine, overrides: Sequence[str]) -> str:
    """Return the argument without which the others can be composed, as the beginning of a message."""
    for index, word in enumerate(overrides):
        try:
            compose_with_hydra(line.command, [*overrides[:index], *overrides[index + 1 :]])
        except COMPOSITION_ERRORS:
            continue
        return f"{word} on the command line is not possible: "
    return ""


def _syntax(override: str) -> str:
    if "=" not in override:
        return f"{override!r} on the command line does not have the form key=value."
    key, _, value = override.partition("=")
    if value[:1] in ("[", "{"):
        return (
            f"the value of {key} on the command line has wrong syntax: {value!r}; close all brackets, and quote texts "
            f"with other characters than ASCII letters, digits, _ and -: \"{key}=['a=b','é']\"."
        )
    quoted = f"{key}={quote_override(value)}"
    special = set(quoted) & set('"$`!\\\\')  # of the shell, within double quotes
    shown = shlex.quote(quoted) if special else f'"{quoted}"'
    return f"the value of {key} on the command line has wrong syntax: {value!r}; quote it: {shown}."


def _no_option(error: MissingConfigException, line: CommandLine, overrides: Sequence[str]) -> str:
    missing = str(error.missing_cfg_file or "")
    if missing in _LAUNCHERS:
        extra = _LAUNCHERS[missing]
        return f"launcher={extra} needs a plugin of Hydra: pip install 'stemlab[{extra}]'."
    known_groups = sorted(path.name for folder in conf_folders(line) for path in folder.iterdir() if path.is_dir())
    group = next((name for name in known_groups if missing.startswith(f"{name}/")), missing.rpartition("/")[0])
    if not group:
        names = [path.stem for folder in conf_folders(line) for path in folder.glob("*.yaml")]
        return f"there is no config {missing!r} in conf/.{_hint(missing, names)}"
    option = missing[len(group) + 1 :]
    typed = f"{group}={option}"
    where = "on the command line" if typed in overrides else f"in {_referring_file(str(error))}"
    return f"{typed} {where}: there is no conf/{missing}.yaml.{_hint(option, options(line, group))}"


def _base_file(line: CommandLine, overrides: Sequence[str]) -> str:
    """Return the message for a base file (``model=_multitask``) that was chosen as an option."""
    for word in overrides:
        group, _, option = word.partition("=")
        is_option = any((folder / group).is_dir() for folder in conf_folders(line))
        if is_option and option.rpartition("/")[2].startswith("_"):
            file = f"conf/{group}/{option}.yaml"
            hint = _hint(option, options(line, group))
            return f"{word} on the command line: {file} is a base of other files, not an option.{hint}"
    return ""


def options(line: CommandLine, group: str) -> list[str]:
    """Return the options of a group, with subfolders (``tiktok/stem``), without base files (``_x.yaml``)."""
    found: set[str] = set()
    for folder in conf_folders(line):
        paths = (folder / group).rglob("*.yaml")
        found |= {path.relative_to(folder / group).with_suffix("").as_posix() for path in paths if path.name[0] != "_"}
    return sorted(found)


def _referring_file(message: str) -> str:
    found = re.match(r"In '([^']+)'", message)
    return f"conf/{found.group(1)}.yaml" if found else "conf/"


def _no_key(key: str, line: CommandLine, overrides: Sequence[str]) -> str:
    rest = [word for word, parse in zip(overrides, parse_overrides(overrides), strict=True) if _group_word(parse, line)]
    try:
        config: Any = compose_with_hydra(line.command, rest)
    except COMPOSITION_ERRORS:
        config = OmegaConf.create()
    whole, parent, name = config, "", key.split(".")[0]
    for name in key.split("."):
        if not OmegaConf.is_dict(config) or name not in config:
            break
        parent, config = f"{parent}{name}.", config._get_node(name)
    known = [str(word) for word in config if word != "hydra"] if OmegaConf.is_dict(config) else []
    if parent == "":
        known += [path.name for folder in conf_folders(line) for path in folder.iterdir() if path.is_dir()]
    if not known:
        return f"{key} (set on the command line) is not a setting: {parent.rstrip('.')} has no settings below it."
    keys = _all_keys(whole)
    hint = key_hint(name, known, keys) or key_hint(key.rpartition(".")[2], [], keys) or _known(known)
    return f"{parent}{name} (set on the command line) is not a setting.{hint}"


def _all_keys(config: Any, prefix: str = "") -> list[str]:
    """Return the full keys of all settings of a config but those of Hydra."""
    keys: list[str] = []
    for name in config if OmegaConf.is_dict(config) else ():
        node = config._get_node(name)
        inner = _all_keys(node, f"{prefix}{name}.") if f"{prefix}{name}" != "hydra" else []
        keys += inner or ([] if OmegaConf.is_dict(node) else [f"{prefix}{name}"])
    return keys


def _group_word(override: Any, line: CommandLine) -> bool:
    return any((folder / override.key_or_group).is_dir() for folder in conf_folders(line))


def _no_value(error: BaseException, line: CommandLine, overrides: Sequence[str]) -> str:
    own = str(error).partition(_RESOLVER_PREFIX)[2].split("\n")[0]
    if own:  # a message of stemlab.config.table_description about the user's file
        return own
    key = getattr(error, "full_key", None) or ""
    named = _MANDATORY.search(str(error))
    if named or isinstance(error, MissingMandatoryValue):
        key = max(key, named[1] if named else "", key=len)
        where = KeyOrigins(line.command, overrides)(key).replace("set ", "??? ", 1)
        return f"{key} has no value ({where}): write {key}=... on the command line."
    place = f"{key} ({KeyOrigins(line.command, overrides)(key)}): " if key else ""
    return f"{place}{_first_line(error)}"


def _hint(name: str, known: Sequence[str]) -> str:
    return nearest(name, list(known)) or _same_end(name, known) or _known(known)


def _known(names: Sequence[str]) -> str:
    listed = ", ".join(sorted(set(names))[:12])
    return f" Known: {listed}{', ...' if len(set(names)) > 12 else ''}." if names else ""


def _same_end(name: str, known: Sequence[str]) -> str:
    """Return a hint for ``stem`` where ``tiktok/stem`` exists."""
    ends = [word for word in known if word.rpartition("/")[2] == name]
    return f" Did you mean {ends[0]!r}?" if ends else ""


def _first_line(error: BaseException) -> str:
    text = str(error).strip().split("\n")[0].rstrip(".")
    return f"{text}."


def several_values_error(override: str, group: bool) -> StemlabError:
    """Return the error for several values without ``-m``."""
    key, _, value = override.partition("=")
    otherwise = "" if group or "(" in value else f", or write {key}=[{value}] for a list"
    return StemlabError(
        f"{override} on the command line has several values: add -m to run one job per value{otherwise}."
    )


def existing_folder(path: str, option: str) -> Path:
    """Return the absolute folder given with ``--config-dir`` or ``--config-path``.

    Raises:
        StemlabError: there is no such folder.
    """
    folder = Path(path).absolute()
    if not folder.is_dir():
        raise StemlabError(f"{option} {path}: there is no such folder.")
    return folder

"""Compose the config of one job and find where each key was set."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import hydra
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra._internal.hydra import Hydra
from hydra._internal.utils import create_config_search_path
from hydra.core.config_search_path import SearchPathQuery
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf, open_dict, read_write

from stemlab.config.conf_dir import conf_dir
from stemlab.config.resolve import resolve
from stemlab.config.table_description import CONFIG_KEY, RESOLVER, sets_key
from stemlab.config.validate import validate

VERSION_BASE = "1.3"
_TYPED = "command line"


@dataclass(frozen=True)
class CommandLine:
    """Arguments of a command.

    Attributes:
        command: name of the primary config (``train``).
        overrides: arguments ``key=value``.
        multirun: whether ``-m`` was given.
        folder: folder ``conf`` (``--config-path``).
        extra: folder with more options (``--config-dir``).
    """

    command: str
    overrides: tuple[str, ...] = ()
    multirun: bool = False
    folder: Path | None = None
    extra: Path | None = None


def compose(command: str, overrides: Sequence[str] = ()) -> dict[str, Any]:
    """Return the validated, plain config of ``python -m stemlab.<command> <overrides>``."""
    with hydra_context(CommandLine(command)):
        plain = compose_job(command, overrides)
        validate(command, plain, KeyOrigins(command, overrides))
        return plain


@contextmanager
def hydra_context(line: CommandLine) -> Iterator[None]:
    """Initialise Hydra with ``conf/``; restore its global state afterwards."""
    job_config = HydraConfig.instance().cfg
    folder = str((line.folder or conf_dir()).resolve())
    try:
        with (
            base_files_hidden(),
            hydra.initialize_config_dir(folder, version_base=VERSION_BASE, job_name=line.command),
        ):
            if line.extra is not None:
                _search_also(folder, line.extra, line.command)
            yield
    finally:
        HydraConfig.instance().cfg = job_config


@contextmanager
def separate_hydra(command: str) -> Iterator[None]:
    """Replace the global Hydra instance of the running command, to compose configs of another command."""
    running = GlobalHydra.instance()
    outer, running.hydra = running.hydra, None
    try:
        with hydra_context(CommandLine(command)):
            yield
    finally:
        running.hydra = outer


@contextmanager
def base_files_hidden() -> Iterator[None]:
    """Leave base files (``conf/model/_multitask.yaml``) out of the options that Hydra lists or expands.

    Hydra has no setting for this. The patched method serves ``--help``, ``model=glob(*)`` and shell completion.
    """
    original = ConfigLoaderImpl.get_group_options

    def visible(*args: Any, **kwargs: Any) -> list[str]:
        return [name for name in original(*args, **kwargs) if not name.startswith("_")]

    ConfigLoaderImpl.get_group_options = visible  # type: ignore[method-assign]
    try:
        yield
    finally:
        ConfigLoaderImpl.get_group_options = original  # type: ignore[method-assign]


def _search_also(folder: str, extra: Path, command: str) -> None:
    """Restart Hydra with a second folder, as its own ``--config-dir`` does."""
    path = create_config_search_path(folder)
    path.prepend("command-line", f"file://{extra.resolve()}", anchor=SearchPathQuery(provider="schema"))
    GlobalHydra.instance().clear()
    Hydra.create_main_hydra2(task_name=command, config_search_path=path)


def compose_job(command: str, overrides: Sequence[str]) -> dict[str, Any]:
    """Compose and resolve one job inside ``hydra_context``, without validation."""
    return resolve(without_hydra(compose_with_hydra(command, overrides)))


def compose_with_hydra(command: str, overrides: Sequence[str]) -> DictConfig:
    """Return the config with its ``hydra`` node and the path of the run directory, which is not created."""
    config = hydra.compose(command, list(overrides), return_hydra_config=True)
    HydraConfig.instance().set_config(config)
    with read_write(config.hydra.runtime), open_dict(config.hydra.runtime):
        config.hydra.runtime.output_dir = os.path.abspath(str(config.hydra.run.dir))
    HydraConfig.instance().set_config(config)
    return config


def without_hydra(config: DictConfig) -> DictConfig:
    """Return a copy without the ``hydra`` node."""
    task = config.copy()
    with read_write(task), open_dict(task):
        del task["hydra"]
    return task


def parse_overrides(overrides: Sequence[str]) -> list[Override]:
    """Parse arguments ``key=value``; raise ``OverrideParseException`` for wrong syntax."""
    hydra_state = GlobalHydra.instance()  # needed to expand model=glob(*)
    loader = hydra_state.config_loader() if hydra_state.is_initialized() else None
    return OverridesParser(_parser().functions, loader).parse_overrides(list(overrides))


@cache
def _parser() -> OverridesParser:
    return OverridesParser.create()  # takes 0.3 ms, and each job of a sweep is checked


def conf_folders(line: CommandLine) -> list[Path]:
    """Return the folders that hold options."""
    return [folder for folder in (line.folder or conf_dir(), line.extra) if folder is not None]


def is_group(name: str) -> bool:
    """Return whether ``conf/<name>`` is a folder of options."""
    repository: Any = GlobalHydra.instance().config_loader().repository  # type: ignore[attr-defined]
    return bool(repository.group_exists(name))


def _argument_name(word: str) -> str:
    """Return the key or group of an argument such as ``+optim.lr=0.1`` or ``model@pair.left=stem``."""
    return word.partition("=")[0].partition("@")[0].lstrip("+~")


class KeyOrigins:
    """Find where a config key was set, on the command line or in a file; used in error messages."""

    def __init__(self, command: str, overrides: Sequence[str], swept: Sequence[str] = ()) -> None:
        """Store the arguments of one job.

        Args:
            command: primary config.
            overrides: arguments of the job.
            swept: keys among them that a file of the group ``sweep`` set.
        """
        self.command = command
        self.overrides = list(overrides)
        self.swept = swept

    def __call__(self, key: str) -> str:
        """Return where the key, or else its nearest parent in a file, was set."""
        if self.on_command_line(key):
            place = self.typed_place(key)
            return f"set on the {place}" if place == _TYPED else f"set in {place}"
        parts = key.split(".")
        for length in range(len(parts), 0, -1):
            path = self._file(".".join(parts[:length]))
            if path:
                return f"set in {path}"
        return "not set"

    def typed_place(self, key: str) -> str:
        """Return ``command line``, or the file of the group ``sweep`` that sets an argument of the job."""
        return (self._file("hydra.sweeper.params") if key in self.swept else None) or _TYPED

    def on_command_line(self, key: str) -> bool:
        """Return whether an argument sets the key; much cheaper than to find a file."""
        words = [word for word in self.overrides if f"{key}.".startswith(f"{_argument_name(word)}.")]
        return any(
            f"{key}.".startswith(f"{override.key_or_group}.")
            for override in (parse_overrides(words) if words else [])
            if isinstance(override.value(), dict) or not is_group(override.key_or_group)
        )

    def in_description(self, key: str) -> bool:
        """Return whether the table description (``dataset.config``) sets the key."""
        return self._description(key.removeprefix("dataset.")) is not None

    def _file(self, key: str) -> str | None:
        """Return the last file in Hydra's merge order that has the key."""
        loader: Any = GlobalHydra.instance().config_loader()
        defaults = loader.compute_defaults_list(self.command, self.overrides, RunMode.RUN).defaults
        for default in reversed(defaults):
            package = default.package or ""
            if not f"{key}.".startswith(f"{package}.") and package:
                continue
            loaded = loader.repository.load_config(default.config_path)
            inner = key[len(package) :].lstrip(".")
            if loaded is not None and (_has(loaded.config, inner) if inner else package):
                uses_table_config = f"${{{RESOLVER}:" in str(loaded.config)
                description = self._description(inner) if uses_table_config else None
                return description or display_path(default.config_path, loaded.path, loaded.provider)
        return None

    def _description(self, key: str) -> str | None:
        """Return the path of ``dataset.config`` if that file sets the key of the dataset."""
        for override in parse_overrides(self.overrides):
            path = override.value()
            if override.key_or_group == CONFIG_KEY and isinstance(path, str) and sets_key(Path(path), key):
                return path
        return None


def _has(config: Any, key: str) -> bool:
    for part in key.split("."):
        if not OmegaConf.is_dict(config) or part not in config.keys():  # noqa: SIM118 (``in`` is false for ???)
            return False
        config = config._get_node(part)
    return True


def display_path(name: str, source: str, provider: str) -> str:
    """Return the path of a config file as messages show it, from the folder ``conf``."""
    folder = "conf" if provider == "main" else source.removeprefix("file://")
    return f"{folder}/{name.removesuffix('.yaml')}.yaml"

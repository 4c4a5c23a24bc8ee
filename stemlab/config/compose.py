"""Compose the config of one job, and know who set each of its keys."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
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
from stemlab.config.table_description import KEY, RESOLVER, describes
from stemlab.config.validate import validate

VERSION_BASE = "1.3"


@dataclass(frozen=True)
class CommandLine:
    """What was typed.

    Attributes:
        command: the primary config's name (``train``).
        overrides: ``key=value`` words.
        multirun: whether ``-m`` was given.
        folder: the folder ``conf``.
        extra: a second folder with further options (``--config-dir``).
    """

    command: str
    overrides: tuple[str, ...] = ()
    multirun: bool = False
    folder: Path | None = None
    extra: Path | None = None


def compose(command: str, overrides: Sequence[str] = ()) -> dict[str, Any]:
    """Return the validated, plain config that ``python -m stemlab.<command> <overrides>`` would run with."""
    with session(CommandLine(command)):
        plain = plain_job(command, overrides)
        validate(command, plain, Origins(command, overrides))
        return plain


@contextmanager
def session(line: CommandLine) -> Iterator[None]:
    """Make Hydra read ``conf/``, and leave its global state as it was found."""
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
    """Start Hydra again with a second folder, as its own ``--config-dir`` does."""
    path = create_config_search_path(folder)
    path.prepend("command-line", f"file://{extra.resolve()}", anchor=SearchPathQuery(provider="schema"))
    GlobalHydra.instance().clear()
    Hydra.create_main_hydra2(task_name=command, config_search_path=path)


def plain_job(command: str, overrides: Sequence[str]) -> dict[str, Any]:
    """Compose and resolve one job inside a session; nothing is checked yet."""
    return resolve(without_hydra(composed(command, overrides)))


def composed(command: str, overrides: Sequence[str]) -> DictConfig:
    """Return the config with its ``hydra`` node, its run directory filled in (but not made)."""
    config = hydra.compose(command, list(overrides), return_hydra_config=True)
    HydraConfig.instance().set_config(config)
    with read_write(config.hydra.runtime), open_dict(config.hydra.runtime):
        config.hydra.runtime.output_dir = os.path.abspath(str(config.hydra.run.dir))
    HydraConfig.instance().set_config(config)
    return config


def without_hydra(config: DictConfig) -> DictConfig:
    """Return the part of the config that the command sees."""
    task = config.copy()
    with read_write(task), open_dict(task):
        del task["hydra"]
    return task


def parsed(overrides: Sequence[str]) -> list[Override]:
    """Parse ``key=value`` words (``OverrideParseException`` where the syntax is wrong)."""
    hydra_state = GlobalHydra.instance()  # model=glob(*) is expanded from its options
    loader = hydra_state.config_loader() if hydra_state.is_initialized() else None
    return OverridesParser.create(config_loader=loader).parse_overrides(list(overrides))


def conf_folders(line: CommandLine) -> list[Path]:
    """The folders in which options are looked for."""
    return [folder for folder in (line.folder or conf_dir(), line.extra) if folder is not None]


def is_group(name: str) -> bool:
    """Whether ``conf/<name>`` is a folder of options."""
    repository: Any = GlobalHydra.instance().config_loader().repository  # type: ignore[attr-defined]
    return bool(repository.group_exists(name))


class Origins:
    """Config key -> ``set on the command line`` or ``set in conf/model/stem.yaml``; asked when something is wrong."""

    def __init__(self, command: str, overrides: Sequence[str], swept: Sequence[str] = ()) -> None:
        """Remember the words of one job.

        Args:
            command: the primary config.
            overrides: the words of the job.
            swept: those keys among them that a sweep file set, not the user.
        """
        self.command = command
        self.overrides = list(overrides)
        self.swept = swept

    def __call__(self, key: str) -> str:
        """Return who set the key, or the nearest node above it that a file has."""
        if self._typed(key):
            file = self._file("hydra.sweeper.params") if key in self.swept else None
            return f"set in {file}" if file else "set on the command line"
        parts = key.split(".")
        for length in range(len(parts), 0, -1):
            path = self._file(".".join(parts[:length]))
            if path:
                return f"set in {path}"
        return "set nowhere"

    def _typed(self, key: str) -> bool:
        values = (
            word for word in parsed(self.overrides) if isinstance(word.value(), dict) or not is_group(word.key_or_group)
        )
        return any(f"{key}.".startswith(f"{override.key_or_group}.") for override in values)

    def _file(self, key: str) -> str | None:
        """The last file, in the order in which Hydra merges them, that has the key."""
        loader: Any = GlobalHydra.instance().config_loader()
        defaults = loader.compute_defaults_list(self.command, self.overrides, RunMode.RUN).defaults
        for default in reversed(defaults):
            package = default.package or ""
            if not f"{key}.".startswith(f"{package}.") and package:
                continue
            loaded = loader.repository.load_config(default.config_path)
            inner = key[len(package) :].lstrip(".")
            if loaded is not None and inner and _has(loaded.config, inner):
                asks = f"${{{RESOLVER}:" in str(loaded.config)
                described = self._description(inner) if asks else None
                return described or _shown(default.config_path, loaded.path, loaded.provider)
        return None

    def _description(self, key: str) -> str | None:
        """The user's own file (``dataset.config``), where it says what the dataset's key is."""
        for word in parsed(self.overrides):
            if word.key_or_group == KEY and isinstance(word.value(), str) and describes(Path(str(word.value())), key):
                return str(word.value())
        return None


def _has(config: Any, key: str) -> bool:
    for part in key.split("."):
        if not OmegaConf.is_dict(config) or part not in config.keys():  # noqa: SIM118 (``in`` is false for ???)
            return False
        config = config._get_node(part)
    return True


def _shown(name: str, source: str, provider: str) -> str:
    folder = "conf" if provider == "main" else source.removeprefix("file://")
    return f"{folder}/{name.removesuffix('.yaml')}.yaml"

"""Keep parsed config files and interpolations in this process: most tests compose configs from the same files."""

from __future__ import annotations

import copy
from functools import cache
from pathlib import Path
from typing import Any

import omegaconf.base
from hydra._internal.sources_registry import SourcesRegistry
from hydra.core.plugins import Plugins

from tests.replaced import replace_function

CONF = Path(__file__).resolve().parents[1] / "conf"


def keep_parses() -> None:
    """Read each file of ``conf/`` and of Hydra, and parse each interpolation, once per process."""
    Plugins.instance()  # defines the classes below
    sources = SourcesRegistry.instance()
    _keep_files(sources.resolve("file"), str(CONF))
    _keep_files(sources.resolve("pkg"), "hydra")
    replace_function(omegaconf.base, "parse", cache(omegaconf.base.parse))


def _keep_files(source: Any, folder: str) -> None:
    read, kept = source.load_config, {}

    def load_config(self: Any, config_path: str) -> Any:
        if not self.path.startswith(folder):
            return read(self, config_path)
        key = self.path, config_path
        if key not in kept:
            kept[key] = read(self, config_path)
        return copy.deepcopy(kept[key])  # Hydra changes what it gets

    replace_function(source, "load_config", load_config)

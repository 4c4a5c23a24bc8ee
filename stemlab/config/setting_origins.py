"""Settings of a job that are not defaults, and where each was set; shown by ``dry_run``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hydra.core.global_hydra import GlobalHydra
from hydra.types import RunMode
from omegaconf import OmegaConf

from stemlab.config.compose import KeyOrigins, display_path, parse_overrides
from stemlab.config.resolve import flatten

_CHOSEN_FILES = ("experiment/", "sweep/")


def chosen_settings(origins: KeyOrigins) -> dict[str, tuple[str, str]]:
    """Return the settings that were chosen: key -> (value as text, file or ``command line``).

    They are those of the files of ``experiment`` and ``sweep``, of files of the user (``--config-dir``), and those
    typed; a later one replaces an earlier one. Call it inside ``hydra_context``.

    Args:
        origins: arguments of the job.
    """
    loader: Any = GlobalHydra.instance().config_loader()
    found: dict[str, tuple[str, str]] = {}
    for default in loader.compute_defaults_list(origins.command, origins.overrides, RunMode.RUN).defaults:
        loaded = loader.repository.load_config(default.config_path)
        if loaded is None or not (default.config_path.startswith(_CHOSEN_FILES) or loaded.provider == "command-line"):
            continue
        package = f"{default.package}." if default.package else ""
        values = OmegaConf.to_container(loaded.config, resolve=False)
        assert isinstance(values, Mapping)
        place = display_path(default.config_path, loaded.path, loaded.provider)
        settings = flatten({str(key): value for key, value in values.items() if key not in ("hydra", "defaults")})
        found |= {f"{package}{key}": (str(value), place) for key, value in settings.items() if package != "hydra."}
    for override in parse_overrides(origins.overrides):
        if not override.is_hydra_override():
            key = override.get_key_element()
            found.pop(key, None)
            found[key] = (str(override.input_line).partition("=")[2], origins.typed_place(key))
    return {key: value for key, value in found.items() if key != "dry_run"}

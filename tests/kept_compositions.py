"""Keep parsed arguments, defaults lists and merged files: most tests compose configs from the same files.

Hydra composes a config in three steps: it finds the files (the defaults list), merges them, and applies arguments
``key=value``. The first two depend only on the files and on those arguments that choose files.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from hydra._internal import config_loader_impl, defaults_list
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override, Sweep
from omegaconf import DictConfig

from tests.replaced import replace_function

ROOT = Path(__file__).resolve().parents[1]
Key = tuple[Any, ...]


def keep_compositions() -> None:
    """Parse each argument once, and find and merge the files of this repository once per choice of files."""
    for owner, name, kept in (
        (OverridesParser, "parse_rule", _kept_arguments),
        (config_loader_impl, "create_defaults_list", _kept_defaults_lists),
        (defaults_list, "_create_interpolation_map", _interpolation_map_if_needed),
        (config_loader_impl.ConfigLoaderImpl, "_compose_config_from_defaults_list", _kept_merged_files),
    ):
        replace_function(owner, name, kept(getattr(owner, name)))


def places(repository: Any) -> Key | None:
    """Return where config files are searched, or None if a folder is outside this repository."""
    found = [(source.scheme(), source.path) for source in repository.get_sources()]
    own = all(scheme != "file" or Path(path).is_relative_to(ROOT) for scheme, path in found)
    return tuple(found) if own else None


def _kept_arguments(parse: Callable[..., Any]) -> Callable[..., Any]:
    kept: dict[Key, Override] = {}

    def parse_rule(self: OverridesParser, s: str, rule_name: str) -> Any:
        if (s, rule_name) in kept:
            return copy.copy(kept[s, rule_name])  # Hydra sets its config loader
        parsed = parse(self, s, rule_name)
        if isinstance(parsed, Override) and not isinstance(parsed._value, Sweep):
            kept[s, rule_name] = copy.copy(parsed)
        return parsed

    return parse_rule


def _kept_defaults_lists(create: Callable[..., Any]) -> Callable[..., Any]:
    kept: dict[Key, Any] = {}

    def create_defaults_list(
        repo: Any, config_name: str | None, overrides_list: list[Override], prepend_hydra: bool, skip_missing: bool
    ) -> Any:
        searched = places(repo)
        if searched is None:
            return create(repo, config_name, overrides_list, prepend_hydra, skip_missing)
        settings: list[Override] = []
        choices: list[Override] = []
        for override in overrides_list:
            if not override.is_sweep_override():
                (settings if _is_setting(override, repo) else choices).append(override)
        key = (searched, config_name, tuple(override.input_line for override in choices), prepend_hydra, skip_missing)
        if key not in kept:
            kept[key] = create(repo, config_name, choices, prepend_hydra, skip_missing)
        return replace(kept[key], config_overrides=settings)

    return create_defaults_list


def _interpolation_map_if_needed(create: Callable[..., Any]) -> Callable[..., Any]:
    def create_interpolation_map(overrides: Any, defaults_list: list[Any], self_added: bool) -> Any:
        """Return None for the many files whose defaults lists have no interpolation: nothing reads it then."""
        needed = any(default.is_interpolation() for default in defaults_list)
        return create(overrides, defaults_list, self_added) if needed else None

    return create_interpolation_map


def _is_setting(override: Override, repository: Any) -> bool:
    """Return whether an argument changes a value and chooses no file, by Hydra's rule."""
    return isinstance(override.value(), dict) or not repository.group_exists(override.key_or_group)


def _kept_merged_files(merge: Callable[..., DictConfig]) -> Callable[..., DictConfig]:
    kept: dict[Key, DictConfig] = {}

    def merged(self: Any, defaults: Sequence[Any], repo: Any) -> DictConfig:
        searched = places(repo)
        if searched is None:
            return merge(self, defaults, repo)
        key = (searched, *map(repr, defaults))
        if key not in kept:
            kept[key] = merge(self, defaults, repo)
        return copy.deepcopy(kept[key])

    return merged

"""``resume_from=runs/...``: a config with every setting of an earlier run, and what is typed beside it."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from hydra.core.override_parser.types import Override

from stemlab.config.compose import parse_overrides
from stemlab.config.conf_dir import conf_dir
from stemlab.config.dotted_keys import node_of
from stemlab.config.resolve import resolve
from stemlab.config.resume_words import settings_of_the_run
from stemlab.config.single_values import single_values_as_lists
from stemlab.config.validate import validate
from stemlab.errors import StemlabError, nearest
from stemlab.reporting.recorded_config import complete, read_option
from stemlab.runs.checkpoint_io import SavedRun, read_checkpoint
from stemlab.runs.resume import changed_settings, may_change
from stemlab.runs.run_directory import newest_checkpoint, usable_checkpoint
from stemlab.runs.trust import check_packages, check_recorded_config

_OPTIONS = {"trainer": ("name", "accelerator", "devices", "num_nodes", "process_group_backend"), "logger": None}
"""Group of which another option may be chosen -> its settings that the option sets; None: all."""


def read_source(config: Mapping[str, Any]) -> SavedRun:
    """Return the newest checkpoint of the run in ``resume_from``, a run directory or a checkpoint.

    Args:
        config: config of the command; ``resume_from`` and ``allow`` are read.

    Raises:
        StemlabError: there is no intact checkpoint, or its config names a class that is not allowed.
    """
    check_packages(config["allow"])
    path = Path(config["resume_from"]).absolute()
    if not path.exists():
        raise StemlabError(f"resume_from={config['resume_from']}: there is no run directory or checkpoint {path}.")
    found = newest_checkpoint(path) if path.is_dir() else path
    if found is None:
        usable_checkpoint(path)
        raise StemlabError(f"resume_from={config['resume_from']}: there is no checkpoint in {path / 'checkpoints'}.")
    saved = read_checkpoint(found)
    check_recorded_config(saved.config, config["allow"], saved.path)
    return saved


def resumed_config(config: Mapping[str, Any], words: Sequence[str]) -> dict[str, Any]:
    """Return the config of the run in ``resume_from`` with the typed settings.

    The paths are those of the command: a checkpoint does not choose where is written.

    Args:
        config: config of the command.
        words: overrides of the command line, ``key=value``.

    Raises:
        StemlabError: the run cannot be resumed, or a typed setting cannot change in a resumed run.
    """
    saved = read_source(config)
    recorded = copy.deepcopy(saved.config)
    merged = {**config, **recorded, "logger": {**config["logger"], **recorded["logger"]}}
    completed = complete(recorded)
    merged |= {group: completed[group] for group in ("trainer", "callbacks", "optim")}  # settings newer than the run
    for key in ("paths", "resume", "overwrite", "allow", "resume_from"):
        merged[key] = config[key]
    merged["ckpt_path"] = str(saved.path)
    dataset = merged["dataset"] = dict(merged["dataset"])
    dataset["data_dir"] = config["paths"]["data_dir"]
    if "download" in dataset:
        dataset["download"] = False  # it would write into the recorded raw_dir
    for override in parse_overrides(settings_of_the_run(words)):
        _apply(merged, override, saved)
    merged = single_values_as_lists(resolve(merged))
    for key, old, new in changed_settings(saved.config, merged):
        if not may_change(key):
            node, name = node_of(merged, key)
            if not isinstance(node, dict) or name not in node:
                raise StemlabError(
                    f"{saved.path} was made by another version of stemlab, with {key}={old}, which this version "
                    "does not have: resume it with that version, or start another run."
                )
            raise StemlabError(
                f"{key}={new} cannot change in a run resumed from {saved.path}, which has {old}: leave it out."
            )
    validate("train", merged)
    return merged


def _apply(config: dict[str, Any], override: Override, saved: SavedRun) -> None:
    """Set a typed setting in the config."""
    key, word = override.key_or_group, override.input_line
    if key in _OPTIONS and isinstance(override.value(), str):
        option = _option(key, str(override.value()))
        config[key] = {**config[key], **{name: option[name] for name in _OPTIONS[key] or option}}
        return
    if override.is_add() or override.is_force_add() or override.is_delete() or override.is_sweep_override():
        raise StemlabError(f"{word}: with resume_from, settings have the form key=value.")
    node, name = node_of(config, key)
    if not isinstance(node, dict) or name not in node:
        known = sorted(node) if isinstance(node, dict) else sorted(config)
        raise StemlabError(f"{word}: the run {saved.path} has no setting {key}.{nearest(name, known)}")
    if isinstance(node[name], Mapping):
        raise StemlabError(f"{word}: resume_from takes {key} from the run {saved.path}; type its settings one by one.")
    node[name] = override.value()


def _option(group: str, option: str) -> Mapping[str, Any]:
    known = [path.stem for path in sorted((conf_dir() / group).glob("[!_]*.yaml"))]
    if option not in known:
        raise StemlabError(f"{group}={option}: there is no such option; known: {', '.join(known)}.")
    return read_option(f"{group}/{option}.yaml")

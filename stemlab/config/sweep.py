"""Jobs of a command line (one, or several in a sweep); all are validated before the first one starts."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from time import perf_counter
from typing import Any

from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.override_parser.types import IntervalSweep, Override
from hydra.types import RunMode
from omegaconf import DictConfig

from stemlab.config.compose import (
    CommandLine,
    KeyOrigins,
    compose_job,
    compose_with_hydra,
    hydra_context,
    is_group,
    parse_overrides,
    without_hydra,
)
from stemlab.config.composition_messages import COMPOSITION_ERRORS, composition_message, several_values_error
from stemlab.config.monitor_checks import check_search_direction
from stemlab.config.own_metrics import own_directions
from stemlab.config.path_checks import check_job_folders, check_typed_folders
from stemlab.config.resolve import resolve
from stemlab.config.single_values import single_values_as_lists
from stemlab.config.sweep_settings import check_sweep, check_values, is_search
from stemlab.config.table_description import CONFIG_KEY
from stemlab.config.validate import validate
from stemlab.errors import StemlabError

_MANY_JOBS = 100  # checked in less than a second
_OWN_SWEEPERS = ("BasicSweeper", "StemlabSweeper")
_OTHERS_FOLLOW = (
    *("optim.tables", "model.embedding_regularizer_mode"),  # the mode of the regularizer
    *("model.task", "dataset.tasks"),  # the monitor, which is another one if all tasks are regression
    "model.max_epochs",  # trainer.max_epochs
)
"""Settings from which others are derived; so are mode and objective from a monitor."""


def _say_nothing(text: str) -> None:
    """Default of ``report``."""


def check_command_line(
    line: CommandLine,
    report: Callable[[str], None] = _say_nothing,
    check: Callable[[dict[str, Any]], None] | None = None,
    preview: Callable[[dict[str, Any], KeyOrigins, bool], None] | None = None,
) -> bool | None:
    """Compose and validate every job of the command line.

    Args:
        line: the command line.
        report: called with the number of jobs of a sweep after their settings are checked; of many jobs also before.
        check: further check of the config of a single job; jobs of a sweep make it when they start.
        preview: called with config, origins of the settings and whether it is a sweep, for each job with ``dry_run``.

    Returns:
        Whether it is a sweep (``-m``, or ``hydra.mode`` set by an option of the group ``sweep``); None if its jobs
        were shown and must not be run.

    Raises:
        StemlabError: the first job that cannot run.
    """
    with hydra_context(line):
        base = with_message(line, list(line.overrides), lambda: _base(line))
        unit = "setting" if is_search(base) else "job"
        check_job_folders(*(base.hydra[node]._get_node("dir")._value() for node in ("run", "sweep")))
        swept = line.multirun or base.hydra.mode == RunMode.MULTIRUN
        check_typed_folders(line.overrides, swept)
        swept_by_file = _swept_by_file(line, base)
        jobs = with_message(line, list(line.overrides), lambda: _jobs(line, base, swept))
        if swept and len(jobs) > _MANY_JOBS:
            report(f"checking the settings of {_count(jobs, unit)}")
        start, previews, checked = perf_counter(), False, 0
        try:
            for overrides, plain in compose_jobs(line, jobs) if swept else _resolve_job(line, jobs[0], base):
                origins = KeyOrigins(line.command, overrides, swept_by_file)
                validate(line.command, plain, origins)
                if swept and line.command == "train":
                    check_search_direction(plain["objective"], base.hydra.sweeper, own_directions(plain))
                if preview is not None and plain.get("dry_run"):
                    previews = True
                    preview(plain, origins, swept)
                elif check is not None and not swept:
                    check(plain)
                checked += 1
        except StemlabError as error:
            if len(jobs) == 1:
                raise
            raise StemlabError(f"{error} ({_named_job(jobs, checked, unit)})") from error
        if previews:
            return None
        if swept:
            first = "job" if unit == "job" else "trial"
            report(f"checked {_count(jobs, unit)} in {perf_counter() - start:.1f} s; the first {first} starts")
    return swept


def _named_job(jobs: Sequence[Sequence[str]], number: int, unit: str) -> str:
    """Return the number of a job, from 0, and the words that not all jobs have."""
    own = " ".join(word for word in jobs[number] if any(word not in job for job in jobs))
    return f"{unit} {number + 1:,} of {len(jobs):,}: {own}"


def _count(jobs: Sequence[Sequence[str]], unit: str) -> str:
    return f"{len(jobs):,} {unit}{'' if len(jobs) == 1 else 's'}"


def _resolve_job(line: CommandLine, overrides: list[str], base: DictConfig) -> list[tuple[list[str], dict[str, Any]]]:
    """Resolve the only job of a command line: ``base`` is composed from the same overrides."""
    return [(overrides, with_message(line, overrides, lambda: resolve(without_hydra(base))))]


def compose_jobs(line: CommandLine, jobs: list[list[str]]) -> Iterator[tuple[list[str], dict[str, Any]]]:
    """Yield arguments and config of each job; jobs with equal group choices are composed once (100 times faster)."""

    @cache
    def parse(word: str) -> tuple[Override, bool]:
        override = parse_overrides([word])[0]
        return override, _is_plain_value(override)

    composed: dict[tuple[str, ...], dict[str, Any]] = {}
    for overrides in jobs:
        parsed = [(word, *with_message(line, overrides, lambda word=word: parse(word))) for word in overrides]
        choice = tuple(word for word, _, is_value in parsed if not is_value)
        if choice in composed:
            plain = composed[choice]
            values = {override.key_or_group: override.value() for _, override, is_value in parsed if is_value}
            if "seed" in values and "seed" in plain.get("dataset", {}):  # dataset.seed is ${seed}
                values = {"dataset.seed": values["seed"]} | values
            for key, value in values.items():
                plain = _with_value(plain, key.split("."), value)
            plain = single_values_as_lists(plain)
        else:
            plain = with_message(line, overrides, lambda job=overrides: compose_job(line.command, job))
            composed[choice] = plain
        yield overrides, plain


def _is_plain_value(override: Override) -> bool:
    """Return whether an override only replaces a value, so that the config need not be composed again."""
    key = override.key_or_group
    if override.is_add() or override.is_force_add() or override.is_delete() or override.is_hydra_override():
        return False
    if key in _OTHERS_FOLLOW or key.endswith(".monitor") or key.startswith("dataset.labels."):
        return False
    if isinstance(override.value(), dict):  # merged with the mapping in the config
        return False
    return "${" not in _text(override) and key != CONFIG_KEY and not is_group(key)


def _with_value(config: Mapping[str, Any], path: Sequence[str], value: Any) -> dict[str, Any]:
    """Return a copy of a config with another value at ``path``; all other nodes are shared with the original."""
    name, *rest = path
    return {**config, name: _with_value(config[name], rest, value) if rest else value}


def check_composition(line: CommandLine) -> None:
    """Check only that Hydra can compose the config; used to show it (``--cfg``)."""
    with hydra_context(line):
        with_message(line, list(line.overrides), lambda: _base(line))


def compose_base(line: CommandLine) -> DictConfig:
    """Return the config of a command line inside ``hydra_context``, without the values of a sweep.

    Raises:
        StemlabError: Hydra cannot compose it.
    """
    config: DictConfig = with_message(line, list(line.overrides), lambda: _base(line))
    return config


def sweep_directory(line: CommandLine) -> Path:
    """Return the directory of a sweep (``hydra.sweep.dir``)."""
    with hydra_context(line):
        return Path(str(_base(line).hydra.sweep.dir))


def with_message(line: CommandLine, overrides: list[str], step: Any) -> Any:
    """Call ``step``; turn errors of Hydra into a ``StemlabError`` with a message."""
    try:
        return step()
    except COMPOSITION_ERRORS as error:
        raise StemlabError(composition_message(error, line, overrides)) from error


def _base(line: CommandLine) -> DictConfig:
    overrides = parse_overrides(line.overrides)
    fixed = [override for override in overrides if not override.is_sweep_override()]
    words = [_text(override) for override in fixed]
    groups = _swept_groups(overrides)
    kept = [word for word, override in zip(words, fixed, strict=True) if not _belongs_to_group(override, groups)]
    return compose_with_hydra(line.command, kept)


def _swept_groups(overrides: Sequence[Override]) -> set[str]:
    """Return the swept groups of the overrides of a command line."""
    swept = {override.key_or_group for override in overrides if override.is_sweep_override()}
    return {name for name in swept if is_group(name)}


def _belongs_to_group(override: Override, swept: set[str]) -> bool:
    """Return whether a setting belongs to a swept group: the default option of that group may lack the key."""
    root = override.key_or_group.split(".")[0]
    if is_group(override.key_or_group) or root in ("hydra", "paths"):
        return False
    set_by_model = root in ("optim", "callbacks") and "model" in swept  # a model selects these groups
    return root in swept or set_by_model or bool(swept & {"experiment", "sweep"})


def hydra_arguments(line: CommandLine) -> list[str]:
    """Return the arguments for Hydra, which would apply fixed values to the default option of a swept group.

    ``-m model=mmoe,omoe model.net.num_experts=8`` would be refused because the default ``stem`` has no such key. As a
    sweep over one value, it is applied to each job.
    """
    with hydra_context(line):
        overrides = parse_overrides(line.overrides)
        groups = _swept_groups(overrides)
        return [
            f"{override.get_key_element()}=choice({override.get_value_element_as_str()})"
            if not override.is_sweep_override() and _belongs_to_group(override, groups) and "=" in _text(override)
            else _text(override)
            for override in overrides
        ]


def _jobs(line: CommandLine, base: DictConfig, swept: bool) -> list[list[str]]:
    overrides = parse_overrides(line.overrides)
    if not swept:
        several = next((override for override in overrides if override.is_sweep_override()), None)
        if several is not None:
            raise several_values_error(_text(several), is_group(several.key_or_group))
        return [[_text(override) for override in overrides]]
    sweeper = base.hydra.sweeper
    if not str(sweeper.get("_target_")).endswith(_OWN_SWEEPERS):
        return [[_text(override) for override in overrides if not override.is_sweep_override()]]
    params = parse_overrides([f"{key}={value}" for key, value in _params(base).items()])
    swept_overrides = [override for override in [*params, *overrides] if override.is_sweep_override()]
    check_values(swept_overrides)
    if base.get("sweep") is not None:
        check_sweep(base, swept_overrides, str(base.hydra.launcher._target_))
    return _corners([*params, *overrides]) if is_search(base) else _grid(params, overrides)


def _corners(overrides: Sequence[Override]) -> list[list[str]]:
    """Return jobs in which each setting of a search has each of its values, or both ends of its interval, once."""
    values = {override.get_key_element(): _values(override) for override in overrides}
    first = {key: texts[0] for key, texts in values.items()}
    single = [f"{key}={text}" for key, text in first.items()]
    others = [(key, text) for key, texts in values.items() for text in texts[1:]]
    return [single, *([f"{k}={t}" for k, t in {**first, key: text}.items()] for key, text in others)]


def _values(override: Override) -> list[str]:
    value = override.value()
    if isinstance(value, IntervalSweep):
        return [str(value.start), str(value.end)]
    if override.is_sweep_override():
        return list(override.sweep_string_iterator())
    return [override.get_value_element_as_str()]


def _params(base: DictConfig) -> dict[str, Any]:
    """Return the swept settings of a file of the group ``sweep``: key -> values."""
    return dict(base.hydra.sweeper.get("params") or {})


def _swept_by_file(line: CommandLine, base: DictConfig) -> list[str]:
    on_command_line = {override.key_or_group for override in parse_overrides(line.overrides)}
    return [key for key in _params(base) if key not in on_command_line]


def _grid(params: Sequence[Override], overrides: Sequence[Override]) -> list[list[str]]:
    return list(BasicSweeper.split_arguments([*params, *overrides], None)[0])


def _text(override: Override) -> str:
    return str(override.input_line)

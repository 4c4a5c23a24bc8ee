"""The jobs of a command line: one, or those of a basic sweep; every one is checked before the first starts."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from typing import Any

from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.override_parser.types import Override
from hydra.types import RunMode
from omegaconf import DictConfig

from stemlab.config.compose import (
    CommandLine,
    Origins,
    composed,
    is_group,
    parsed,
    plain_job,
    session,
    without_hydra,
)
from stemlab.config.composition_messages import COMPOSITION_ERRORS, ambiguous, sentence
from stemlab.config.resolve import resolve
from stemlab.config.table_description import KEY as DESCRIPTION
from stemlab.config.validate import validate
from stemlab.errors import StemlabError


def check_command_line(line: CommandLine) -> bool:
    """Compose and validate every job of the command line.

    Returns:
        Whether it is a sweep (``-m``, or ``hydra.mode`` set by an option of the group ``sweep``).

    Raises:
        StemlabError: one sentence about the first job that cannot run.
    """
    with session(line):
        base = _told(line, list(line.overrides), lambda: _base(line))
        swept = line.multirun or base.hydra.mode == RunMode.MULTIRUN
        swept_by_file = _swept_by_file(line, base)
        jobs = _told(line, list(line.overrides), lambda: _jobs(line, base, swept))
        for overrides, plain in _plain_jobs(line, jobs) if swept else _plain_single(line, jobs[0], base):
            validate(line.command, plain, Origins(line.command, overrides, swept_by_file))
    return swept


def _plain_single(line: CommandLine, overrides: list[str], base: DictConfig) -> list[tuple[list[str], dict[str, Any]]]:
    """Resolve the only job of a command line: ``base`` is composed from the same overrides."""
    return [(overrides, _told(line, overrides, lambda: resolve(without_hydra(base))))]


def _plain_jobs(line: CommandLine, jobs: list[list[str]]) -> Iterator[tuple[list[str], dict[str, Any]]]:
    """Compose the first job of each choice of groups; the others differ from it in values only (30 times faster)."""
    known: dict[tuple[str, ...], dict[str, Any]] = {}
    for overrides in jobs:
        words = parsed(overrides)
        values = [word for word in words if _is_plain_value(word)]
        choice = tuple(_word(word) for word in words if not _is_plain_value(word))
        if choice in known:
            plain = copy.deepcopy(known[choice])
            for word in values:
                _set(plain, word.key_or_group, word.value())
        else:
            plain = _told(line, overrides, lambda job=overrides: plain_job(line.command, job))
            known[choice] = plain
        yield overrides, plain


def _is_plain_value(word: Override) -> bool:
    whole = not (word.is_add() or word.is_force_add() or word.is_delete() or is_group(word.key_or_group))
    return whole and "${" not in _word(word) and not word.is_hydra_override() and word.key_or_group != DESCRIPTION


def _set(plain: dict[str, Any], key: str, value: Any) -> None:
    *parents, name = key.split(".")
    for parent in parents:
        plain = plain[parent]
    plain[name] = value


def check_composition(line: CommandLine) -> None:
    """Refuse only what Hydra cannot compose: enough to show a config (``--cfg``)."""
    with session(line):
        _told(line, list(line.overrides), lambda: _base(line))


def _told(line: CommandLine, overrides: list[str], step: Any) -> Any:
    """Run a step; what Hydra has to say about it becomes one sentence."""
    try:
        return step()
    except COMPOSITION_ERRORS as error:
        raise StemlabError(sentence(error, line, overrides)) from error


def _base(line: CommandLine) -> DictConfig:
    fixed = [override for override in parsed(line.overrides) if not override.is_sweep_override()]
    words = [_word(override) for override in fixed]
    kept = [word for word, override in zip(words, fixed, strict=True) if not _of_swept(override, line)]
    return composed(line.command, kept)


def _of_swept(override: Override, line: CommandLine) -> bool:
    """Whether a value belongs to a group of which the sweep runs several options (it need not fit the default one)."""
    swept = {other.key_or_group for other in parsed(line.overrides) if other.is_sweep_override()}
    groups = {name for name in swept if is_group(name)}
    root = override.key_or_group.split(".")[0]
    if is_group(override.key_or_group) or root in ("hydra", "paths"):
        return False
    brought = root in ("optim", "callbacks") and "model" in groups  # a model brings its own
    return root in groups or brought or bool(groups & {"experiment", "sweep"})


def adapted(line: CommandLine) -> list[str]:
    """Return the words for Hydra, which applies fixed values to the default option of a swept group.

    ``-m model=mmoe,omoe model.net.num_experts=8`` would be refused because ``stem`` has no such key; as a sweep over
    one value it is applied to each job alone.
    """
    with session(line):
        return [
            f"{override.get_key_element()}=choice({override.get_value_element_as_str()})"
            if not override.is_sweep_override() and _of_swept(override, line) and "=" in _word(override)
            else _word(override)
            for override in parsed(line.overrides)
        ]


def _jobs(line: CommandLine, base: DictConfig, swept: bool) -> list[list[str]]:
    overrides = parsed(line.overrides)
    if not swept:
        several = next((override for override in overrides if override.is_sweep_override()), None)
        if several is not None:
            raise ambiguous(_word(several), is_group(several.key_or_group))
        return [[_word(override) for override in overrides]]
    sweeper = base.hydra.sweeper
    if not str(sweeper.get("_target_")).endswith("BasicSweeper"):
        return [[_word(override) for override in overrides if not override.is_sweep_override()]]
    params = [f"{key}={value}" for key, value in _params(base).items()]
    return _grid(parsed(params), overrides)


def _params(base: DictConfig) -> dict[str, Any]:
    """What a file of the group ``sweep`` wants to vary."""
    return dict(base.hydra.sweeper.get("params") or {})


def _swept_by_file(line: CommandLine, base: DictConfig) -> list[str]:
    typed = {word.key_or_group for word in parsed(line.overrides)}
    return [key for key in _params(base) if key not in typed]


def _grid(params: Sequence[Override], overrides: Sequence[Override]) -> list[list[str]]:
    return list(BasicSweeper.split_arguments([*params, *overrides], None)[0])


def _word(override: Override) -> str:
    return str(override.input_line)

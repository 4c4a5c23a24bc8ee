"""Search space: the settings of a sweep that have several values, in Hydra's override grammar."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import TYPE_CHECKING

from hydra.core.override_parser.types import IntervalSweep, Override, RangeSweep

if TYPE_CHECKING:
    import optuna


class SearchSpace:
    """Fixed and searched settings of a sweep.

    ``a,b`` and ``choice(a,b)`` are choices; ``range(1,9)`` and ``int(interval(1,8))`` are integers;
    ``interval(0.1,0.9)`` are numbers; ``tag(log,interval(1e-4,1e-2))`` are numbers on a logarithmic scale.

    Args:
        overrides: settings of the sweep, from its files and from the command line; later ones replace earlier ones.

    Attributes:
        fixed: words ``key=value`` of settings with one value.
        searched: key -> override of settings with several values.
    """

    def __init__(self, overrides: Sequence[Override]) -> None:
        last = {override.get_key_element(): override for override in overrides}
        self.fixed: list[str] = []
        self.searched: dict[str, Override] = {}
        for key, override in last.items():
            values = [] if isinstance(override.value(), IntervalSweep) else _texts(override)
            if len(values) == 1:
                self.fixed.append(f"{key}={values[0]}" if "=" in str(override.input_line) else str(override.input_line))
            else:
                self.searched[key] = override

    def description(self) -> list[str]:
        """Return all settings as words, equal for equal searches."""
        words = [*self.fixed, *(str(override.input_line) for override in self.searched.values())]
        return sorted(word for word in words if not word.startswith(("sweep.", "sweep=", "resume=")))

    def combinations(self) -> list[dict[str, str | int | float]]:
        """Return all combinations of the values, the last key fastest."""
        values = [
            [_number(text) if isinstance(override.value(), RangeSweep) else text for text in _texts(override)]
            for override in self.searched.values()
        ]
        return [dict(zip(self.searched, chosen, strict=True)) for chosen in itertools.product(*values)]

    def suggest(self, trial: optuna.Trial) -> list[str]:
        """Let the sampler choose the searched settings of a trial; return all its settings as words."""
        return [*self.fixed, *(f"{key}={_suggested(trial, key, one)}" for key, one in self.searched.items())]


def _texts(override: Override) -> list[str]:
    if override.is_sweep_override():
        return list(override.sweep_string_iterator())
    return [override.get_value_element_as_str()] if "=" in str(override.input_line) else [""]


def _number(text: str) -> int | float:
    return float(text) if any(sign in text for sign in ".e") else int(text)


def _suggested(trial: optuna.Trial, key: str, override: Override) -> str | int | float:
    value = override.value()
    if isinstance(value, IntervalSweep):
        assert value.start is not None
        assert value.end is not None
        log = "log" in value.tags
        if isinstance(value.start, int) and isinstance(value.end, int):
            return trial.suggest_int(key, value.start, value.end, log=log)
        return trial.suggest_float(key, value.start, value.end, log=log)
    texts = _texts(override)
    if isinstance(value, RangeSweep):
        numbers = [_number(text) for text in texts]
        step = numbers[1] - numbers[0]
        if all(isinstance(number, int) for number in numbers):
            return trial.suggest_int(key, int(numbers[0]), int(numbers[-1]), step=int(step))
        return trial.suggest_float(key, numbers[0], numbers[-1], step=step)
    return str(trial.suggest_categorical(key, texts))

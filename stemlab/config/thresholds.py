"""``fail_if``: conditions on the values of ``results.json``, for CI.

``collapse.runs.*.mean_abundance.l2 < 3`` holds if any run of the section ``collapse`` has such a mean abundance. A path
is the name of a section and keys of its ``numbers`` in ``results.json``; ``*`` is any key. Names with spaces or dots
are written unchanged. An entry of a list is named by its index (from 0), by one of its strings, or by all its strings:
``collapse.runs.stem.tables.uid shared.abundance_l2``.

If a condition holds, the command exits with status 3 after all results are written. Status 2 remains the status of user
errors, so that CI can distinguish a worse model from a misspelt path.
"""

from __future__ import annotations

import math
import operator
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any

from stemlab.errors import StemlabError, nearest

_OPERATIONS = {"<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge}
_CONDITION = re.compile(r"(?P<path>\S.*?)\s*(?P<operation><=|>=|<|>)\s*(?P<threshold>[^\s<>=]+)")
_ANY = "*"
_MAX_LISTED = 5
"""Maximum number of names or values in a message."""


class ThresholdError(StemlabError):
    """A condition of ``fail_if`` holds; the results are written.

    Args:
        message: which conditions hold, with their values.
        held: texts of these conditions.
    """

    status = 3

    def __init__(self, message: str, held: Sequence[str]) -> None:
        super().__init__(message)
        self.held = tuple(held)


@dataclass(frozen=True)
class Condition:
    """A condition of ``fail_if``.

    Attributes:
        text: the condition as given.
        path: section and keys, separated by dots.
        operation: one of ``_OPERATIONS``.
        threshold: right side of the comparison.
    """

    text: str
    path: str
    operation: str
    threshold: float

    def holds(self, value: float) -> bool:
        """Return whether the condition holds for a value."""
        return bool(_OPERATIONS[self.operation](value, self.threshold))


def parse_condition(text: str) -> Condition:
    """Parse a condition.

    Raises:
        ValueError: wrong syntax; the message is written to follow "must be".
    """
    found = _CONDITION.fullmatch(text.strip())
    wrong = ValueError(
        f"a condition <path> <op> <number> with op one of {' '.join(_OPERATIONS)} and a path that begins with a "
        "section, such as 'collapse.runs.*.mean_abundance.l2 < 3'"
    )
    if found is None:
        raise wrong
    names = found["path"].split(".")
    try:
        threshold = float(found["threshold"])
    except ValueError:
        raise wrong from None
    if len(names) < 2 or not all(names) or not math.isfinite(threshold):
        raise wrong
    return Condition(text.strip(), found["path"], found["operation"], threshold)


def parse_conditions(texts: str | Sequence[str]) -> list[Condition]:
    """Parse the setting ``fail_if``, a list of conditions or a single condition."""
    return [parse_condition(text) for text in ([texts] if isinstance(texts, str) else texts)]


def check_sections(conditions: Sequence[Condition], sections: Sequence[str]) -> None:
    """Refuse a condition on a section that the analysis does not have, before anything is computed.

    Raises:
        StemlabError: a path begins with an unknown section.
    """
    for condition in conditions:
        if not any(condition.path.startswith(f"{name}.") for name in (*sections, _ANY)):
            first = condition.path.split(".")[0]
            hint = nearest(first, list(sections))
            raise StemlabError(
                f"fail_if '{condition.text}': the path must begin with a section, {' or '.join(sections)}, not "
                f"{first!r}.{hint}"
            )


def check_conditions(conditions: Sequence[Condition], results: Mapping[str, Any]) -> None:
    """Check all conditions on the values of ``results.json``.

    Args:
        conditions: parsed conditions.
        results: content of the file.

    Raises:
        ThresholdError: at least one condition holds.
        StemlabError: a path leads to no number.
    """
    mistakes, messages = [], {}
    for condition in conditions:
        try:
            values = {path: value for path, value in values_at(condition, results).items() if condition.holds(value)}
        except StemlabError as error:
            mistakes.append(str(error))
            continue
        if values:
            messages[condition.text] = _message(condition, values)
    if mistakes:
        raise StemlabError(" ".join([*mistakes, *messages.values()]))
    if messages:
        raise ThresholdError(" ".join(messages.values()), list(messages))


def _message(condition: Condition, values: Mapping[str, float]) -> str:
    """Return the message for a condition that holds, with the most extreme values first."""
    order = sorted(values, key=lambda path: values[path], reverse=condition.operation[0] == ">")
    listed = [f"{path} is {values[path]:.6g}" for path in order[:_MAX_LISTED]]
    more = [f"{len(order) - _MAX_LISTED} more values meet it"] if len(order) > _MAX_LISTED else []
    return f"fail_if '{condition.text}' holds: {', '.join([*listed, *more])}."


def values_at(condition: Condition, results: Mapping[str, Any]) -> dict[str, float]:
    """Return all values that match a condition's path: full path -> value.

    Raises:
        StemlabError: it leads to no number; the message has the nearest keys.
    """
    sections = {name: section["numbers"] for name, section in results["sections"].items()}
    ends = list(_ends(sections, condition.path, ()))
    values = {".".join(names): float(node) for names, node, rest in ends if not rest and isinstance(node, int | float)}
    if values:
        return values
    names, node, rest = max(ends, key=lambda end: (not end[2], len(end[0])))
    why = results["refused"].get(rest.split(".")[0]) if not names else None
    reason = f"{rest.split('.')[0]} was left out: {why}" if why else _path_message(".".join(names), node, rest)
    raise StemlabError(f"fail_if '{condition.text}': {reason}")


def _path_message(place: str, node: Any, rest: str) -> str:
    """Return the message for a path that is valid up to ``place`` and has ``rest`` left."""
    known = [name for name, _, _ in _children(node)]
    if not known:
        kind = "undefined in these results" if node is None else "empty" if node in ([], {}) else repr(node)
        return f"{place} is {kind}; it has {'no keys below it' if rest else 'no number to compare'}."
    word = rest.split(".")[0]
    near = get_close_matches(word, known, n=_MAX_LISTED, cutoff=0.0) if word else known[:_MAX_LISTED]
    names = f"{', '.join(near)}{', ...' if len(known) > len(near) else ''}"
    where = place or "results.json"
    if rest:
        return f"there is no {word!r} in {where}; nearest: {names}."
    return f"{where} is not a number; its keys: {names}."


def _ends(node: Any, rest: str, names: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], Any, str]]:
    """Yield names, node and rest of the path for each node where the path ends or has no next key."""
    stuck = bool(rest)
    for name, aliases, child in _children(node) if rest else ():
        for alias in (*aliases, _ANY):
            if rest == alias or rest.startswith(f"{alias}."):
                stuck = False
                yield from _ends(child, rest[len(alias) + 1 :], (*names, name))
                break
    if stuck or not rest:
        yield names, node, rest


def _children(node: Any) -> Iterator[tuple[str, tuple[str, ...], Any]]:
    """Yield the display name, all accepted names and the value of each entry."""
    if isinstance(node, Mapping):
        yield from ((key, (key,), value) for key, value in node.items())
    elif isinstance(node, list):
        for number, entry in enumerate(node):
            words = [word for word in entry.values() if isinstance(word, str)] if isinstance(entry, Mapping) else []
            name = " ".join(words) or str(number)
            yield name, (name, str(number), *words), entry

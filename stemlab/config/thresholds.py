"""``fail_if``: conditions on the numbers of ``results.json``, for use in CI.

``collapse.runs.*.mean_abundance.l2 < 3`` holds where any run of the section ``collapse`` has such a mean abundance. A
path begins with the section's name and goes on as its ``numbers`` do in ``results.json``; ``*`` is any key. Names with
spaces or dots are written as they are. An entry of a list is called by its number (from 0), by one of its texts, or by
all of them: ``collapse.runs.stem.tables.uid shared.abundance_l2``.

A condition that holds is not a user's mistake (status 2): CI must tell a model that became worse from a misspelt path.
So the command then leaves with a status of its own, 3, after it has written everything.
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

OPERATIONS = {"<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge}
FORM = re.compile(r"(?P<path>\S.*?)\s*(?P<operation><=|>=|<|>)\s*(?P<threshold>[^\s<>=]+)")
ANY = "*"
_MOST_TOLD = 5
"""Names or values that a sentence tells at the most."""


class ThresholdError(StemlabError):
    """Thresholds that the user set are crossed; the results are written."""

    status = 3


@dataclass(frozen=True)
class Condition:
    """A condition on numbers.

    Attributes:
        text: as written.
        path: names of sections and keys, with dots between them.
        operation: one of ``OPERATIONS``.
        threshold: what the numbers are compared with.
    """

    text: str
    path: str
    operation: str
    threshold: float

    def holds(self, value: float) -> bool:
        """Whether it holds for a number."""
        return bool(OPERATIONS[self.operation](value, self.threshold))


def parsed(text: str) -> Condition:
    """Return what a text says.

    Raises:
        ValueError: it is no condition; the message goes on after "must be".
    """
    found = FORM.fullmatch(text.strip())
    wrong = ValueError(
        f"a condition, <path> <op> <number> with op one of {' '.join(OPERATIONS)} and the section's name first, such "
        "as 'collapse.runs.*.mean_abundance.l2 < 3'"
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


def conditions(texts: str | Sequence[str]) -> list[Condition]:
    """Return the conditions of the setting ``fail_if``, a list or a single one."""
    return [parsed(text) for text in ([texts] if isinstance(texts, str) else texts)]


def check_sections(asked: Sequence[Condition], sections: Sequence[str]) -> None:
    """Refuse, before anything is computed, a condition on a section that there will not be.

    Raises:
        StemlabError: there is one.
    """
    for one in asked:
        if not any(one.path.startswith(f"{name}.") for name in (*sections, ANY)):
            first = one.path.split(".")[0]
            hint = nearest(first, list(sections))
            raise StemlabError(
                f"fail_if '{one.text}': a path begins with the section's name, {' or '.join(sections)}, not {first!r}."
                f"{hint}"
            )


def judge(asked: Sequence[Condition], results: Mapping[str, Any]) -> None:
    """Compare the numbers of ``results.json`` with the conditions, all of them.

    Args:
        asked: the conditions.
        results: as read from the file.

    Raises:
        ThresholdError: at least one holds.
        StemlabError: a path does not lead to a number.
    """
    mistakes, crossed = [], []
    for one in asked:
        try:
            values = {path: value for path, value in numbers_at(one, results).items() if one.holds(value)}
        except StemlabError as error:
            mistakes.append(str(error))
            continue
        if values:
            crossed.append(_told(one, values))
    if mistakes:
        raise StemlabError(" ".join([*mistakes, *crossed]))
    if crossed:
        raise ThresholdError(" ".join(crossed))


def _told(one: Condition, values: Mapping[str, float]) -> str:
    """One sentence, the most extreme values first."""
    order = sorted(values, key=lambda path: values[path], reverse=one.operation[0] == ">")
    told = [f"{path} is {values[path]:.6g}" for path in order[:_MOST_TOLD]]
    more = [f"{len(order) - _MOST_TOLD} more are beyond it, too"] if len(order) > _MOST_TOLD else []
    return f"fail_if '{one.text}' holds: {', '.join([*told, *more])}."


def numbers_at(one: Condition, results: Mapping[str, Any]) -> dict[str, float]:
    """Return full path -> number for all that a condition's path names.

    Raises:
        StemlabError: it names no number; the sentence has the nearest keys.
    """
    sections = {name: section["numbers"] for name, section in results["sections"].items()}
    ends = list(_ends(sections, one.path, ()))
    values = {".".join(names): float(node) for names, node, rest in ends if not rest and isinstance(node, int | float)}
    if values:
        return values
    names, node, rest = max(ends, key=lambda end: (not end[2], len(end[0])))
    why = results["refused"].get(rest.split(".")[0]) if not names else None
    told = f"{rest.split('.')[0]} was left out: {why}" if why else _mistake(".".join(names), node, rest)
    raise StemlabError(f"fail_if '{one.text}': {told}")


def _mistake(place: str, node: Any, rest: str) -> str:
    """What is wrong with a path that led to ``place`` and should go on with ``rest`` (or be a number)."""
    known = [name for name, _, _ in _children(node)]
    if not known:
        kind = "undefined in these results" if node is None else "empty" if node in ([], {}) else repr(node)
        return f"{place} is {kind}; there is {'nothing below it' if rest else 'no number to compare'}."
    word = rest.split(".")[0]
    near = get_close_matches(word, known, n=_MOST_TOLD, cutoff=0.0) if word else known[:_MOST_TOLD]
    names = f"{', '.join(near)}{', ...' if len(known) > len(near) else ''}"
    where = place or "results.json"
    return (
        f"there is no {word!r} in {where}; nearest: {names}." if rest else f"{where} is no number; in it are {names}."
    )


def _ends(node: Any, rest: str, names: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], Any, str]]:
    """Yield names, node and what is left of the path, wherever it leads to its end or does not go on."""
    stuck = bool(rest)
    for told, called, child in _children(node) if rest else ():
        for name in (*called, ANY):
            if rest == name or rest.startswith(f"{name}."):
                stuck = False
                yield from _ends(child, rest[len(name) + 1 :], (*names, told))
                break
    if stuck or not rest:
        yield names, node, rest


def _children(node: Any) -> Iterator[tuple[str, tuple[str, ...], Any]]:
    """Yield the name told, all names, and the value of every entry."""
    if isinstance(node, Mapping):
        yield from ((key, (key,), value) for key, value in node.items())
    elif isinstance(node, list):
        for number, entry in enumerate(node):
            words = [word for word in entry.values() if isinstance(word, str)] if isinstance(entry, Mapping) else []
            name = " ".join(words) or str(number)
            yield name, (name, str(number), *words), entry

"""Consistency checks of ``dataset.labels``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from stemlab.data.spec import Label
from stemlab.data.table.label_rule import LabelRule
from stemlab.errors import StemlabError, nearest


def stored_labels(tasks: Sequence[str], rules: Mapping[str, LabelRule]) -> tuple[Label, ...]:
    """Return the labels that are not binary labels of all rows, in the order of the tasks."""
    named = [(task, rules[task]) for task in tasks if task in rules]
    return tuple(Label(task, rule.kind, rule.given) for task, rule in named if rule != LabelRule())


def check_labels(tasks: Sequence[str], rules: Mapping[str, LabelRule]) -> None:
    """Check that rules belong to tasks, and that conditions are binary labels that do not depend on each other.

    Raises:
        StemlabError: the first rule that fails a check.
    """
    for name, rule in rules.items():
        if name not in tasks:
            raise StemlabError(
                f"dataset.labels has {name!r}, which is none of dataset.tasks ({', '.join(tasks)}): a kind or a "
                f"condition needs its label; add it there or remove it here.{nearest(name, tuple(tasks))}"
            )
        if rule.given is not None and rules.get(rule.given, LabelRule()).kind != "binary":
            raise StemlabError(
                f"dataset.labels.{name}.given={rule.given} is a regression label: the condition must be a column of 0 "
                "and 1."
            )
    for name in rules:
        chain = [name]
        while (given := rules.get(chain[-1], LabelRule()).given) is not None:
            if given in chain:
                raise StemlabError(
                    f"dataset.labels: the condition of {name!r} leads back to {given!r} ({' -> '.join(chain)} -> "
                    f"{given}); remove one `given`."
                )
            chain.append(given)

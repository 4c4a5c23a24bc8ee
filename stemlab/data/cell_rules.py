"""How cells of raw rows are read before vocabularies and scalings apply, which differs by dataset."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal


@dataclass(frozen=True, slots=True)
class CellRules:
    """Rules for the cells of a raw row, for encoders outside of stemlab (``stemlab.export``).

    They describe what ``ImpressionDataModule.encode`` does before the vocabularies, in words that a program without
    stemlab can follow. ``stemlab.export`` compares both on made-up rows.

    Attributes:
        missing: texts that are missing values, besides null and NaN.
        strip: whether blanks around a text are removed.
        missing_token: token of missing values, or ``None``: they are out-of-vocabulary.
        fractions: whether floats with a fraction may be tokens; otherwise they are an error.
        numbers: numerical cells that are no numbers are an error (``plain``; booleans are 0 and 1), an error also for
            booleans (``strict``), or missing (``lenient``).
        scenario: column of the scenario in raw rows, or ``None`` if it is the scenario column of the prepared dataset.
        scenario_from: column and prefix from which the scenario is made where its column is missing.
        derived: columns that are computed from others: ``name``, ``kind`` (``cross``, ``log1p``, ``buckets``),
            ``sources``, and ``edges`` and ``names`` of buckets.
        lists: columns of each list of values: the attributes of ``ListRole`` and the field of its categories.
    """

    missing: tuple[str, ...] = ()
    strip: bool = False
    missing_token: str | None = None
    fractions: bool = False
    numbers: Literal["plain", "strict", "lenient"] = "plain"
    scenario: str | None = None
    scenario_from: tuple[str, str] | None = None
    lists: tuple[Mapping[str, Any], ...] = ()
    derived: tuple[Mapping[str, Any], ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return asdict(self)

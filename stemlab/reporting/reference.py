"""Published numbers, for comparison with own runs.

The reference file is YAML::

    title: the released code
    tolerance: {auc: 0.0015}
    reason: why this tolerance   # shown by stemlab.reproduce
    rows:
      - match: {model: mmoe}
        seeds: [2023, 76, 525]
        metrics:
          auc/like: [0.8217, 0.0002]   # mean, standard deviation; or a single number (hr@5: 0.4063)
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

from stemlab.errors import StemlabError
from stemlab.reporting.table import ReportRow, ReportTable

PublishedValue = float | tuple[float, float]


class ReferenceRow(BaseModel):
    """Published numbers of one row; ``match`` holds the values that a row of own runs must have."""

    model_config = ConfigDict(extra="forbid")
    match: dict[str, Any]
    seeds: list[int] = []
    metrics: dict[str, PublishedValue]


class Reference(BaseModel):
    """Content of a reference file."""

    model_config = ConfigDict(extra="forbid")
    title: str
    tolerance: dict[str, float] = {}
    reason: str = ""
    rows: list[ReferenceRow]


@dataclass(frozen=True, kw_only=True)
class NumberPair:
    """An own number and a published or recorded one.

    Attributes:
        ours: own mean over all own seeds; equal seeds give different random numbers in different code.
        published: published mean.
        tolerance: largest accepted difference; ``None``: the difference is shown, but not judged.
    """

    ours: float
    published: float
    tolerance: float | None

    @property
    def difference(self) -> float:
        """Own mean minus published mean."""
        return self.ours - self.published

    @property
    def within(self) -> bool | None:
        """Whether the difference is within the tolerance; ``None`` without a tolerance."""
        # published numbers have four digits: a difference equal to the tolerance must not fail by rounding
        return None if self.tolerance is None else abs(self.difference) <= self.tolerance + 1e-9


@dataclass(frozen=True, kw_only=True)
class ReferenceComparison(NumberPair):
    """Numbers of a row of a report table and of the reference.

    Attributes:
        row: row of own runs.
        name: ``auc/like``, or ``hr@5`` without tasks.
        std: published standard deviation, or ``None``.
        seeds: number of published seeds; 0 if not stated.
    """

    row: ReportRow
    name: str
    std: float | None
    seeds: int


def read_reference(path: Path) -> Reference:
    """Read a reference file.

    Raises:
        StemlabError: the file does not exist, is not YAML, or does not match ``Reference``.
    """
    try:
        return Reference.model_validate(yaml.safe_load(path.read_text(encoding="utf-8")))
    except FileNotFoundError:
        raise StemlabError(f"reference: there is no file {path}.") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise StemlabError(f"reference: {path} is not YAML ({error}).") from None
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(map(str, first["loc"])) or "the file"
        raise StemlabError(f"reference: {path}: {where}: {first['msg']}.") from None


def compare_with_reference(table: ReportTable, reference: Reference) -> list[ReferenceComparison]:
    """Return the comparison of every published number that the table also has, in the order of the table."""
    found = []
    for row in table.rows:
        for other in reference.rows:
            if not all(str(row.runs[0].value(key)) == str(value) for key, value in other.match.items()):
                continue
            found += [_compare(row, other, name, reference) for name in table.columns if _both(row, other, name)]
    return found


def _both(row: ReportRow, other: ReferenceRow, name: str) -> bool:
    return name in other.metrics and bool(row.stats[name].values)


def _compare(row: ReportRow, other: ReferenceRow, name: str, reference: Reference) -> ReferenceComparison:
    stat, numbers = row.stats[name], other.metrics[name]
    published, std = numbers if isinstance(numbers, tuple) else (numbers, None)
    assert stat.mean is not None
    tolerance = reference.tolerance.get(name.split("/")[0])
    return ReferenceComparison(
        row=row,
        name=name,
        ours=stat.mean,
        published=published,
        std=std,
        seeds=len(other.seeds),
        tolerance=tolerance,
    )

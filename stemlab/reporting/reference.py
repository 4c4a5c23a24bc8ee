"""Published numbers, to be set beside ours.

The file is YAML::

    title: the published code
    tolerance: {auc: 0.0015}
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

from omegaconf import OmegaConf
from pydantic import BaseModel, ConfigDict, ValidationError
from yaml import YAMLError

from stemlab.errors import StemlabError
from stemlab.reporting.table import Row, Table

Numbers = float | tuple[float, float]


class ReferenceRow(BaseModel):
    """Numbers of one row; ``match`` holds labels that our row must have."""

    model_config = ConfigDict(extra="forbid")
    match: dict[str, Any]
    seeds: list[int] = []
    metrics: dict[str, Numbers]


class Reference(BaseModel):
    """A reference file."""

    model_config = ConfigDict(extra="forbid")
    title: str
    tolerance: dict[str, float] = {}
    rows: list[ReferenceRow]


@dataclass(frozen=True)
class Comparison:
    """One number of ours beside one of theirs.

    Attributes:
        row: our row.
        name: ``auc/like``, or ``hr@5`` where there are no tasks.
        ours: our mean over all our seeds: the same seed draws other numbers in other code.
        theirs: their mean.
        std: their standard deviation, if stated.
        seeds: number of seeds behind theirs, 0 if not stated.
        tolerance: largest difference that needs no explanation, None if none is stated.
    """

    row: Row
    name: str
    ours: float
    theirs: float
    std: float | None
    seeds: int
    tolerance: float | None

    @property
    def difference(self) -> float:
        """Ours minus theirs."""
        return self.ours - self.theirs

    @property
    def within(self) -> bool | None:
        """Whether the difference is within the tolerance, None if there is none."""
        # both sides are printed with four digits: a difference of exactly the tolerance is not to fail by rounding
        return None if self.tolerance is None else abs(self.difference) <= self.tolerance + 1e-9


def read_reference(path: Path) -> Reference:
    """Read a reference file.

    Raises:
        StemlabError: no such file, not YAML, or not of the form above.
    """
    try:
        return Reference.model_validate(OmegaConf.to_container(OmegaConf.load(path)))
    except FileNotFoundError:
        raise StemlabError(f"reference: there is no file {path}.") from None
    except YAMLError as error:
        raise StemlabError(f"reference: {path} is not YAML ({error}).") from None
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(map(str, first["loc"])) or "the file"
        raise StemlabError(f"reference: {path}: {where}: {first['msg']}.") from None


def compare(table: Table, reference: Reference) -> list[Comparison]:
    """Return every number of the reference for which the table has one, in the order of the table."""
    found = []
    for row in table.rows:
        for other in reference.rows:
            if not all(str(row.runs[0].value(key)) == str(value) for key, value in other.match.items()):
                continue
            found += [_compare(row, other, name, reference) for name in table.columns if _both(row, other, name)]
    return found


def _both(row: Row, other: ReferenceRow, name: str) -> bool:
    return name in other.metrics and bool(row.stats[name].values)


def _compare(row: Row, other: ReferenceRow, name: str, reference: Reference) -> Comparison:
    stat, numbers = row.stats[name], other.metrics[name]
    theirs, std = numbers if isinstance(numbers, tuple) else (numbers, None)
    assert stat.mean is not None
    tolerance = reference.tolerance.get(name.split("/")[0])
    return Comparison(row, name, stat.mean, theirs, std, len(other.seeds), tolerance)

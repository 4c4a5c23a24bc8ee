"""What is said of a run's tables: their singular values, as numbers.

Legend: K width of a table.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from statistics import fmean

from stemlab.analysis.collapse import spectra
from stemlab.analysis.collapse.spectra import information_abundance
from stemlab.array_types import Float64Array

NORMS = ("none", "l2")
STATISTICS = (
    *("rows", "width", "abundance_none", "abundance_l2", "share_of_possible_none", "share_of_possible_l2"),
    *("effective_rank", "stable_rank", "rank_at_1_percent", "energy_of_largest", "energy_of_5_largest"),
)


@dataclass(frozen=True)
class TableSpectrum:
    """Singular values of one table.

    Attributes:
        field: its field.
        role: its role.
        rows: tokens that count.
        width: K.
        values: ``none`` or ``l2`` -> singular values, descending.
    """

    field: str
    role: str
    rows: int
    width: int
    values: Mapping[str, Float64Array]

    @property
    def name(self) -> str:
        """Field, and the role where it is not the shared table."""
        return self.field if self.role == "shared" else f"{self.field} {self.role}"

    def abundance(self, norm: str) -> float:
        """Information Abundance."""
        return information_abundance(self.values[norm])

    def share(self, norm: str) -> float:
        """Abundance over the largest possible, min(rows, K)."""
        return self.abundance(norm) / min(self.rows, self.width)

    def statistics(self) -> dict[str, float]:
        """Everything that is said of the table; ranks and energies are those of the table as it is."""
        values = self.values["none"]
        told = (
            *(self.rows, self.width, self.abundance("none"), self.abundance("l2")),
            *(self.share("none"), self.share("l2"), spectra.effective_rank(values), spectra.stable_rank(values)),
            *(spectra.numeric_rank(values), spectra.energy_share(values, 1), spectra.energy_share(values, 5)),
        )
        return dict(zip(STATISTICS, told, strict=True))


@dataclass(frozen=True)
class RunSpectra:
    """Spectra of a run's tables.

    Attributes:
        label: of the run.
        tables: their spectra.
        left_out: fields that have no token.
        training: what all checkpoints of one training share.
        epoch: after which these are the tables, from 1; 0 before training.
    """

    label: str
    tables: tuple[TableSpectrum, ...]
    left_out: tuple[str, ...] = ()
    training: str = ""
    epoch: int = 0

    def judged(self) -> list[TableSpectrum]:
        """Tables that could use all K directions; where there is none, all tables with two tokens."""
        wide = [table for table in self.tables if table.rows >= table.width]
        return wide or [table for table in self.tables if table.rows > 1] or list(self.tables)

    def mean(self, what: str, norm: str) -> float:
        """Mean ``abundance`` or ``share`` of the judged tables; tables of zeros do not count."""
        found = [getattr(table, what)(norm) for table in self.judged()]
        known = [value for value in found if value == value]
        return fmean(known) if known else float("nan")

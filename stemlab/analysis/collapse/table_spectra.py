"""Singular values and their statistics for the embedding tables of a run.

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
        field: field of the table.
        role: role of the table (``shared``, ``task:<name>``, ``expert:<m>``).
        rows: number of analysed tokens.
        width: K.
        values: normalisation (``none`` or ``l2``) -> singular values, descending.
    """

    field: str
    role: str
    rows: int
    width: int
    values: Mapping[str, Float64Array]

    @property
    def name(self) -> str:
        """Field name, with the role if it is not ``shared``."""
        return self.field if self.role == "shared" else f"{self.field} {self.role}"

    def abundance(self, norm: str) -> float:
        """Return the Information Abundance."""
        return information_abundance(self.values[norm])

    def share(self, norm: str) -> float:
        """Return the abundance divided by its upper bound min(rows, K)."""
        return self.abundance(norm) / min(self.rows, self.width)

    def statistics(self) -> dict[str, float]:
        """Return all statistics by name; ranks and energies are those of the unnormalised table."""
        values = self.values["none"]
        statistics = (
            *(self.rows, self.width, self.abundance("none"), self.abundance("l2")),
            *(self.share("none"), self.share("l2"), spectra.effective_rank(values), spectra.stable_rank(values)),
            *(spectra.numeric_rank(values), spectra.energy_share(values, 1), spectra.energy_share(values, 5)),
        )
        return dict(zip(STATISTICS, statistics, strict=True))


@dataclass(frozen=True)
class RunSpectra:
    """Spectra of the embedding tables of a run.

    Attributes:
        label: label of the run.
        tables: spectra of the tables.
        left_out: fields without tokens.
        training: name of the training, shared by all of its checkpoints.
        epoch: epoch of the checkpoint, from 1; 0 is before training.
    """

    label: str
    tables: tuple[TableSpectrum, ...]
    left_out: tuple[str, ...] = ()
    training: str = ""
    epoch: int = 0

    def tables_for_verdict(self) -> list[TableSpectrum]:
        """Return the tables with at least K tokens; if there are none, all tables with at least two tokens."""
        wide = [table for table in self.tables if table.rows >= table.width]
        return wide or [table for table in self.tables if table.rows > 1] or list(self.tables)

    def mean(self, statistic: str, norm: str) -> float:
        """Return the mean ``abundance`` or ``share`` of ``tables_for_verdict``; all-zero tables are ignored."""
        found = [getattr(table, statistic)(norm) for table in self.tables_for_verdict()]
        known = [value for value in found if value == value]
        return fmean(known) if known else float("nan")

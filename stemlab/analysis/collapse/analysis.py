"""Dimensional collapse: how many of its K dimensions an embedding table uses.

Source: "On the Embedding Collapse When Scaling Up Recommendation Models" (ICML 2024, arXiv 2310.04400) and the analysis
tools released with arXiv 2403.00793; docs/methods/recscope.md#collapse. The paper uses the table unchanged, the
released notebook scales every row to unit length first. Both are reported; ``row_norm`` selects the one in the figures.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal

import numpy as np

from stemlab.analysis.base import Analysis, Findings
from stemlab.analysis.collapse import findings as view
from stemlab.analysis.collapse.projected_spectra import ProjectedAbundance, projected_abundance, projections
from stemlab.analysis.collapse.spectra import BlockwiseMatrix, singular_values
from stemlab.analysis.collapse.table_spectra import NORMS, RunSpectra, TableSpectrum
from stemlab.analysis.collapse.tables import FieldTable, chosen, training_counts
from stemlab.analysis.runs import AnalysedRun
from stemlab.data.datamodule import ImpressionDataModule
from stemlab.data.io.progress import Advance, ProgressBars
from stemlab.errors import StemlabError

RowWeighting = Literal["none", "count"]


class Collapse(Analysis):
    """Spectra and Information Abundance of every embedding table, by field and role.

    Args:
        name: name of the analysis on the command line.
        fields: fields to analyse; empty: all.
        row_norm: normalisation used in figures and verdict: rows of unit length (``l2``, as in the released notebook)
            or the table unchanged (``none``, the definition of the paper).
        keep_padding_oov: whether to include the padding and out-of-vocabulary rows (as in the released code).
        weighting: ``count`` weights every row by the square root of the number of its training samples: most rows of a
            large table are rare and still close to their initial values.
        initial: whether to add the network before training, rebuilt from the seed, next to each run.
        interaction: whether to compute the abundance after interaction for networks that have a projection per pair of
            fields.
    """

    def __init__(
        self,
        *,
        name: str,
        fields: list[str],
        row_norm: Literal["l2", "none"],
        keep_padding_oov: bool,
        weighting: RowWeighting,
        initial: bool,
        interaction: bool,
    ) -> None:
        super().__init__(name=name)
        self.fields, self.row_norm, self.initial = fields, row_norm, initial
        self.keep_padding_oov, self.weighting, self.interaction = keep_padding_oov, weighting, interaction

    def find(self, runs: Sequence[AnalysedRun]) -> Findings:
        """Return spectra, abundances and ranks of all runs."""
        spectra: list[RunSpectra] = []
        maps: list[ProjectedAbundance] = []
        notes: list[str] = []
        for run in runs:
            weights = self._weights(run)
            trained = self.measure(run.label, run.tables, weights)
            spectra.append(replace(trained, training=run.training, epoch=run.epoch))
            if self.initial:
                before = self.measure(f"{run.label} before training", run.initial_tables(), weights)
                spectra.append(replace(before, training=run.training))
            if self.interaction:
                found = self.interactions(run)
                maps += found
                notes += [] if found else [_no_projection(run)]
            run.release()
        return view.findings(spectra, maps, notes, self.row_norm)

    def measure(self, label: str, tables: Sequence[FieldTable], weights: Mapping[str, Any]) -> RunSpectra:
        """Return the spectra of the embedding tables of a network.

        Args:
            label: label of the run.
            tables: embedding tables.
            weights: field -> (V,) factors of the rows; other fields are not weighted.

        Raises:
            StemlabError: an unknown field, or no table has a row to analyse.
        """
        found, left_out = [], []
        with ProgressBars() as steps:
            for table in chosen(tables, self.fields, "analysis.fields"):
                kept = self._kept(table)
                if not len(table.weight_VD[kept]):
                    left_out.append(table.field)
                    continue
                advance = steps.rows(f"{table.field} {table.role}", len(NORMS) * len(table.weight_VD[kept]))
                found.append(_spectrum(table, kept, weights.get(table.field), advance))
        if not found:
            raise StemlabError(f"{label}: every table has only padding and out-of-vocabulary rows.")
        return RunSpectra(label, tuple(found), tuple(dict.fromkeys(left_out)))

    def interactions(self, run: AnalysedRun) -> list[ProjectedAbundance]:
        """Return the abundance after interaction for each role that has a projection per pair of fields."""
        tables: dict[str, dict[str, Any]] = {}
        for table in chosen(run.tables, self.fields, "analysis.fields"):
            rows_VK = table.weight_VD[self._kept(table)]
            if len(rows_VK):
                tables.setdefault(table.role, {})[table.field] = rows_VK
        found = []
        with ProgressBars() as steps:
            for role, by_field in tables.items():
                projection = projections(run.net, list(by_field), role)
                label = run.label if len(tables) == 1 else f"{run.label} {role}"
                if projection is not None:
                    found.append(projected_abundance(label, by_field, projection, self.row_norm, steps))
        return found

    def _kept(self, table: FieldTable) -> slice:
        return slice(0, None) if self.keep_padding_oov else slice(table.first, table.last)

    def _weights(self, run: AnalysedRun) -> dict[str, Any]:
        if self.weighting == "none":
            return {}
        data = run.datamodule
        if not isinstance(data, ImpressionDataModule):
            raise StemlabError(
                f"analysis.weighting=count needs an impression dataset; {run.path} was trained on item sequences."
            )
        ids_RF = data.store("train").ids
        sizes = data.spec.field_sizes
        return {
            field: np.sqrt(training_counts(ids_RF[:, column], size))
            for column, (field, size) in enumerate(sizes.items())
        }


def _no_projection(run: AnalysedRun) -> str:
    net = type(run.net).__name__
    return f"{run.label}: no interaction map, because {net} has no projection per pair of fields."


def _spectrum(table: FieldTable, kept: slice, scale_V: Any, advance: Advance) -> TableSpectrum:
    weight_VD = table.weight_VD[kept]
    scale_v = None if scale_V is None else scale_V[kept]
    values = {
        norm: singular_values(BlockwiseMatrix(weight_VD, normalised=norm == "l2", scale_V=scale_v), advance=advance)
        for norm in NORMS
    }
    return TableSpectrum(table.field, table.role, len(weight_VD), weight_VD.shape[1], values)

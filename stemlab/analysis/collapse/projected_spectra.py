"""Collapse after interaction: table of field j, projected for its interaction with field i.

Source: arXiv 2310.04400; docs/methods/recscope.md#collapse-after-interaction. Networks with one projection per pair of
fields (blocks of a cross layer, a bilinear matrix) implement

    interaction_projection(toward: str, source: str, role: str) -> Tensor | None

It returns the (K', K) matrix W; a row v of the table of ``source`` enters the interaction with ``toward`` as W v.
``role`` is the role of the table in ``embedding_tables()``. ``None``: this table takes part in no interaction.

Legend: N fields, V rows, K width.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from stemlab.analysis import plots
from stemlab.analysis.base import CaptionedFigure, Matrix
from stemlab.analysis.collapse.spectra import BlockwiseMatrix, information_abundance, singular_values
from stemlab.analysis.correlation.agreement import pearson
from stemlab.array_types import AnyArray

Projection = Callable[[str, str], AnyArray]
_METHOD = "interaction_projection"

HOW_TO_READ = (
    "In the interaction map each row is the table of a field and each column the field towards which it is projected; "
    "dark cells have a high Information Abundance after the projection. Both axes are sorted by the abundance of the "
    "unprojected tables, lowest first. Cells that become darker downwards depend on the abundance of the table itself; "
    "cells that become darker to the right depend on the partner field: interaction with a collapsed field collapses "
    "the other tables (interaction-collapse theory, arXiv 2310.04400)."
)


@dataclass(frozen=True)
class ProjectedAbundance:
    """Abundance of every table after projection towards every field.

    Attributes:
        label: label of the run, with the role if the run has several.
        fields: N field names, by ascending abundance of the unprojected tables.
        own_N: abundance of the unprojected tables.
        abundance_NN: abundance after projection; row: field of the table, column: field of the interaction.
    """

    label: str
    fields: tuple[str, ...]
    own_N: AnyArray
    abundance_NN: AnyArray

    def numbers(self) -> dict[str, Any]:
        """Return extremes, and the correlation of row and column means with the abundance of the unprojected tables."""
        return {
            "fields": list(self.fields),
            "own_abundance": self.own_N.tolist(),
            "smallest": float(self.abundance_NN.min()),
            "largest": float(self.abundance_NN.max()),
            "pearson_with_row_means": pearson(self.own_N, self.abundance_NN.mean(axis=1)),
            "pearson_with_column_means": pearson(self.own_N, self.abundance_NN.mean(axis=0)),
        }

    def matrix(self) -> Matrix:
        """Return the map as a matrix."""
        return Matrix(self.fields, self.fields, self.abundance_NN, "table/projected towards")

    def figure(self) -> CaptionedFigure:
        """Return the map as a figure."""
        figure = plots.heat_map(
            self.abundance_NN,
            self.fields,
            self.fields,
            labels=("projected towards", "table"),
            title=f"{self.label}: Information Abundance after interaction",
        )
        return CaptionedFigure(figure, f"{self.label}: abundance of every table, projected towards every field.")


def projected_abundance(
    label: str, tables: Mapping[str, AnyArray], projection: Projection, norm: str, steps: Any
) -> ProjectedAbundance:
    """Return the abundance of every table after projection towards every field.

    Args:
        label: label of the run.
        tables: field -> (V, K) rows.
        projection: ``(toward, source)`` -> (K', K) matrix.
        norm: ``l2`` scales the rows to unit length after projection; ``none`` does not.
        steps: ``ProgressBars`` of the progress bar.
    """
    advance = steps.rows(f"{label} interaction", (len(tables) + 1) * sum(map(len, tables.values())))
    own = {field: _abundance(weight_VK, None, norm, advance) for field, weight_VK in tables.items()}
    fields = sorted(own, key=lambda field: own[field])
    abundance = [
        [_abundance(tables[source], projection(toward, source), norm, advance) for toward in fields]
        for source in fields
    ]
    return ProjectedAbundance(label, tuple(fields), np.array([own[field] for field in fields]), np.array(abundance))


def _abundance(weight_VK: AnyArray, map_KK: AnyArray | None, norm: str, advance: Callable[[int], None]) -> float:
    return information_abundance(
        singular_values(BlockwiseMatrix(weight_VK, normalised=norm == "l2", map_KK=map_KK), advance=advance)
    )


def projections(net: Any, fields: Sequence[str], role: str) -> Projection | None:
    """Return the projections of a network for the tables of one role; ``None`` if it has none for these fields."""
    method = getattr(net, _METHOD, None)
    if method is None or method(fields[0], fields[-1], role) is None:
        return None
    return lambda toward, source: np.asarray(method(toward, source, role).detach().cpu().numpy())

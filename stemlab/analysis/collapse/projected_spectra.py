"""Collapse after interaction: the table of field j, projected as it meets field i (spec/recscope.md section 2.2).

Networks that give every pair of fields a projection of their own (a cross layer's blocks, a bilinear matrix) offer

    interaction_projection(toward: str, source: str, role: str) -> Tensor | None

the (K', K) matrix W by which a row v of ``source``'s table enters the interaction with ``toward`` as W v; ``role`` is
that of the table (``embedding_tables``), and ``None`` says that this table meets no other one.

Legend: N fields, V rows, K width.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from stemlab.analysis import plots
from stemlab.analysis.base import Drawing, Matrix
from stemlab.analysis.collapse.spectra import Rows, information_abundance, singular_values
from stemlab.analysis.correlation.agreement import pearson
from stemlab.array_types import AnyArray

Projection = Callable[[str, str], AnyArray]
METHOD = "interaction_projection"

READING = (
    "The interaction map: a row is a field's table, a column the field that it is projected towards; dark cells keep "
    "many directions. Both axes are sorted by the abundance of the tables themselves, lowest first. If cells grow "
    "darker downwards, a table's own abundance decides; if they grow darker to the right, too, the partner's does: "
    "meeting a collapsed field collapses the others (the interaction-collapse theory of arXiv 2310.04400)."
)


@dataclass(frozen=True)
class Interaction:
    """Abundance of every table after projection towards every field.

    Attributes:
        label: of the run, and the role where it has several.
        fields: N names, by ascending abundance of the tables themselves.
        own_N: that abundance.
        abundance_NN: row: the projected table's field, column: the field that it meets.
    """

    label: str
    fields: tuple[str, ...]
    own_N: AnyArray
    abundance_NN: AnyArray

    def numbers(self) -> dict[str, Any]:
        """Extremes, and how closely the means of rows and columns follow the tables' own abundance."""
        return {
            "fields": list(self.fields),
            "own_abundance": self.own_N.tolist(),
            "smallest": float(self.abundance_NN.min()),
            "largest": float(self.abundance_NN.max()),
            "pearson_with_row_means": pearson(self.own_N, self.abundance_NN.mean(axis=1)),
            "pearson_with_column_means": pearson(self.own_N, self.abundance_NN.mean(axis=0)),
        }

    def matrix(self) -> Matrix:
        """The map as a table."""
        return Matrix(self.fields, self.fields, self.abundance_NN, "table/projected towards")

    def drawing(self) -> Drawing:
        """The map as a figure."""
        figure = plots.heat_map(
            self.abundance_NN,
            self.fields,
            self.fields,
            labels=("projected towards", "table"),
            title=f"{self.label}: Information Abundance after interaction",
        )
        return Drawing(figure, f"{self.label}: abundance of every table, projected as it meets every field.")


def interact(label: str, tables: Mapping[str, AnyArray], projection: Projection, norm: str, told: Any) -> Interaction:
    """Return the map of one network and role.

    Args:
        label: of the run.
        tables: field -> (V, K) rows.
        projection: ``(toward, source)`` -> (K', K).
        norm: ``l2`` divides every row by its length, before and after projection; ``none`` leaves them.
        told: ``ProgressBars`` for the progress bar.
    """
    advance = told.rows(f"{label} interaction", (len(tables) + 1) * sum(map(len, tables.values())))
    own = {field: _abundance(weight_VK, None, norm, advance) for field, weight_VK in tables.items()}
    fields = sorted(own, key=lambda field: own[field])
    abundance = [
        [_abundance(tables[source], projection(toward, source), norm, advance) for toward in fields]
        for source in fields
    ]
    return Interaction(label, tuple(fields), np.array([own[field] for field in fields]), np.array(abundance))


def _abundance(weight_VK: AnyArray, map_KK: AnyArray | None, norm: str, advance: Callable[[int], None]) -> float:
    return information_abundance(
        singular_values(Rows(weight_VK, normalised=norm == "l2", map_KK=map_KK), advance=advance)
    )


def projections(net: Any, fields: Sequence[str], role: str) -> Projection | None:
    """Return a network's projections for the tables of one role, or ``None`` where it has none for these pairs."""
    offered = getattr(net, METHOD, None)
    if offered is None or offered(fields[0], fields[-1], role) is None:
        return None
    return lambda toward, source: np.asarray(offered(toward, source, role).detach().cpu().numpy())

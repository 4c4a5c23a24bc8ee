"""What MMFI's rows attend to, and its means over rows.

Legend: R rows of one scenario, F fields, P pairs, E embedding width, S scenarios, T tasks.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

_ROWS = 1024
"""Rows whose pairs are written out at once."""


@dataclass(frozen=True, slots=True)
class Attended:
    """The attention of one scenario's rows.

    Attributes:
        rows: (R,) their places in the batch.
        pair_RTP: weight of every pair: mask or distribution.
        field_RTF: weight of every field; adds up to one.
        pair_vector_RFE: the fields' vectors of which pairs are made.
        field_vector_RFE: the fields' vectors of the first-order branch.
    """

    rows: Tensor
    pair_RTP: Tensor
    field_RTF: Tensor
    pair_vector_RFE: Tensor
    field_vector_RFE: Tensor


@dataclass(frozen=True, slots=True)
class Importance:
    """Means over the rows of each scenario; 0 where there are none.

    Attributes:
        fields: names of the F fields.
        pairs: names of the P pairs.
        scenarios: names of the S scenarios.
        tasks: names of the T tasks.
        rows_S: rows of each scenario.
        pair_STP: weight of a pair: of the hard mask in [0, 1), of a distribution adding up to one.
        open_STP: share of the rows in which that weight is not zero.
        added_STPE: what a pair adds to the vector that the tower reads: the weight times m_p, the hard mask's q_p and
            the product of both fields' vectors.
        square_STP: squared length of that.
        field_STF: weight of a field in the first-order branch; adds up to one.
    """

    fields: tuple[str, ...]
    pairs: tuple[tuple[str, str], ...]
    scenarios: tuple[str, ...]
    tasks: tuple[str, ...]
    rows_S: Tensor
    pair_STP: Tensor
    open_STP: Tensor
    added_STPE: Tensor
    square_STP: Tensor
    field_STF: Tensor

    def strength(self) -> Tensor:
        """Return, (S, T, P), how far what a pair adds is from its mean: root mean square over rows.

        Neither an open mask of a pair with a tiny m_p nor a term that is the same in all rows tells rows apart.
        """
        return (self.square_STP - self.added_STPE.square().sum(dim=3)).clamp_min(0).sqrt()

    def joined(self, other: Importance) -> Importance:
        """Return the means over the rows of both batches."""
        rows_S = self.rows_S + other.rows_S
        share_S = other.rows_S / rows_S.clamp_min(1)
        means = (
            mine + share_S.view(-1, *[1] * (mine.ndim - 1)) * (theirs - mine)
            for mine, theirs in zip(self._means(), other._means(), strict=True)
        )
        return Importance(self.fields, self.pairs, self.scenarios, self.tasks, rows_S, *means)

    def _means(self) -> tuple[Tensor, ...]:
        return self.pair_STP, self.open_STP, self.added_STPE, self.square_STP, self.field_STF


def importance(
    attended: Sequence[Attended],
    scales: Sequence[Tensor],
    fields: tuple[str, ...],
    pairs: tuple[tuple[str, str], ...],
    scenarios: tuple[str, ...],
    tasks: tuple[str, ...],
) -> Importance:
    """Return the means.

    Args:
        attended: one a scenario.
        scales: a scenario, (T, P): what a pair's weight is multiplied by.
        fields: names.
        pairs: names.
        scenarios: names.
        tasks: names.
    """
    rows_S = torch.tensor([len(part.rows) for part in attended], dtype=torch.float64)
    moments = [_moments(part, scale) for part, scale in zip(attended, scales, strict=True)]
    pair_STP, open_STP, field_STF = (
        _means(values)
        for values in (
            [part.pair_RTP for part in attended],
            [(part.pair_RTP > 0).double() for part in attended],
            [part.field_RTF for part in attended],
        )
    )
    rows = rows_S.clamp_min(1)
    added_STPE = torch.stack([added for added, _ in moments]).cpu() / rows[:, None, None, None]
    square_STP = torch.stack([square for _, square in moments]).cpu() / rows[:, None, None]
    return Importance(fields, pairs, scenarios, tasks, rows_S, pair_STP, open_STP, added_STPE, square_STP, field_STF)


def _moments(part: Attended, scale_TP: Tensor) -> tuple[Tensor, Tensor]:
    """Return the sums over rows of what every pair adds, (T, P, E) float64, and of its squared length, (T, P)."""
    fields, width = part.pair_vector_RFE.shape[1:]
    i, j = torch.triu_indices(fields, fields, 1, device=scale_TP.device)
    added_TPE = torch.zeros(*scale_TP.shape, width, dtype=torch.float64, device=scale_TP.device)
    square_TP = torch.zeros_like(scale_TP, dtype=torch.float64)
    for start in range(0, len(part.rows), _ROWS):
        rows = slice(start, start + _ROWS)
        vector_RFE, factor_RTP = part.pair_vector_RFE[rows], part.pair_RTP[rows] * scale_TP
        term_RTPE = factor_RTP.unsqueeze(3) * (vector_RFE[:, i] * vector_RFE[:, j]).unsqueeze(1)
        added_TPE += term_RTPE.sum(dim=0, dtype=torch.float64)
        square_TP += term_RTPE.double().square().sum(dim=(0, 3))
    return added_TPE, square_TP


def _means(values: Sequence[Tensor]) -> Tensor:
    """Return the means over rows, (S, T, ...) float64 on the processor; 0 of no rows."""
    return torch.stack([(value.sum(dim=0, dtype=torch.float64) / max(len(value), 1)).cpu() for value in values])

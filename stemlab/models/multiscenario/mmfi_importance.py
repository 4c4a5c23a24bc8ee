"""What MMFI's rows attend to, and its means over rows.

Legend: R rows of one scenario, F fields, P pairs, E embedding width, S scenarios, T tasks.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


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
        strength_STP: length of the vector that a pair adds to what the tower reads: the weight times m_p, the hard
            mask's q_p and the length of the product of both fields' vectors. An open mask of a pair with a tiny m_p
            does nothing, which only this number shows.
        field_STF: weight of a field in the first-order branch; adds up to one.
    """

    fields: tuple[str, ...]
    pairs: tuple[tuple[str, str], ...]
    scenarios: tuple[str, ...]
    tasks: tuple[str, ...]
    rows_S: Tensor
    pair_STP: Tensor
    open_STP: Tensor
    strength_STP: Tensor
    field_STF: Tensor

    def joined(self, other: Importance) -> Importance:
        """Return the means over the rows of both batches."""
        rows_S = self.rows_S + other.rows_S
        share_S11 = (other.rows_S / rows_S.clamp_min(1))[:, None, None]
        means = (mine + share_S11 * (theirs - mine) for mine, theirs in zip(self._means(), other._means(), strict=True))
        return Importance(self.fields, self.pairs, self.scenarios, self.tasks, rows_S, *means)

    def _means(self) -> tuple[Tensor, ...]:
        return self.pair_STP, self.open_STP, self.strength_STP, self.field_STF


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
    found = (
        [part.pair_RTP for part in attended],
        [(part.pair_RTP > 0).double() for part in attended],
        [_strengths(part, scale) for part, scale in zip(attended, scales, strict=True)],
        [part.field_RTF for part in attended],
    )
    return Importance(fields, pairs, scenarios, tasks, rows_S, *map(_means, found))


def _strengths(part: Attended, scale: Tensor) -> Tensor:
    """Return (R, T, P): |weight * scale| times the length of the pair's product."""
    square_RFE = part.pair_vector_RFE.double().square()
    fields = square_RFE.shape[1]
    i, j = torch.triu_indices(fields, fields, 1, device=square_RFE.device)
    length_RP = torch.bmm(square_RFE, square_RFE.transpose(1, 2))[:, i, j].sqrt()
    return (part.pair_RTP * scale).abs() * length_RP.unsqueeze(1)


def _means(values: Sequence[Tensor]) -> Tensor:
    """Return the means over rows, (S, T, Q) float64 on the processor; 0 of no rows."""
    return torch.stack([(value.double().sum(dim=0) / max(len(value), 1)).cpu() for value in values])

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
        signed_STP: what a pair's product is multiplied by in all: the weight, m_p and the hard mask's q_p.
        field_STF: weight of a field in the first-order branch; adds up to one.
    """

    fields: tuple[str, ...]
    pairs: tuple[tuple[str, str], ...]
    scenarios: tuple[str, ...]
    tasks: tuple[str, ...]
    rows_S: Tensor
    pair_STP: Tensor
    open_STP: Tensor
    signed_STP: Tensor
    field_STF: Tensor

    def joined(self, other: Importance) -> Importance:
        """Return the means over the rows of both batches."""
        rows_S = self.rows_S + other.rows_S
        share_S11 = (other.rows_S / rows_S.clamp_min(1))[:, None, None]
        means = (mine + share_S11 * (theirs - mine) for mine, theirs in zip(self._means(), other._means(), strict=True))
        return Importance(self.fields, self.pairs, self.scenarios, self.tasks, rows_S, *means)

    def _means(self) -> tuple[Tensor, ...]:
        return self.pair_STP, self.open_STP, self.signed_STP, self.field_STF


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
    pair_STP = _means([part.pair_RTP for part in attended])
    open_STP = _means([(part.pair_RTP > 0).double() for part in attended])
    rows_S = torch.tensor([len(part.rows) for part in attended], dtype=torch.float64)
    signed_STP = pair_STP * torch.stack(list(scales)).double().cpu()
    field_STF = _means([part.field_RTF for part in attended])
    return Importance(fields, pairs, scenarios, tasks, rows_S, pair_STP, open_STP, signed_STP, field_STF)


def _means(values: Sequence[Tensor]) -> Tensor:
    """Return the means over rows, (S, T, Q) float64 on the processor; 0 of no rows."""
    return torch.stack([(value.double().sum(dim=0) / max(len(value), 1)).cpu() for value in values])

"""Attention of MMFI and its means over samples (docs/methods/mmfi.md#pair-importance).

Legend: R samples of one scenario, F fields, P pairs, E embedding width, S scenarios, T tasks.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

_BLOCK = 1024
"""Samples per block; bounds the memory of terms (R, T, P, E)."""


@dataclass(frozen=True, slots=True)
class AttentionOutput:
    """Attention weights and slot vectors of the samples of one scenario.

    Attributes:
        samples: (R,) indices of the samples in the batch.
        pair_RTP: alpha, weight of each pair: mask or distribution.
        field_RTF: beta, weight of each field; sums to one.
        vector_RFE: field vectors x_f of the pairs.
        pair_RPE: pair vectors r_p = m_p (x_i * x_j).
        field_RFE: field vectors z_f of the first-order branch.
    """

    samples: Tensor
    pair_RTP: Tensor
    field_RTF: Tensor
    vector_RFE: Tensor
    pair_RPE: Tensor
    field_RFE: Tensor


@dataclass(frozen=True, slots=True)
class Importance:
    """Means over the samples of each scenario; 0 for a scenario without samples.

    Attributes:
        fields: names of the F fields.
        pairs: names of the P pairs.
        scenarios: names of the S scenarios.
        tasks: names of the T tasks.
        samples_S: number of samples of each scenario.
        pair_STP: mean alpha; in [0, 1) for the hard mask, sums to one for a distribution.
        open_STP: share of samples with alpha > 0.
        added_STPE: mean term q_p alpha_p r_p of a pair in the tower input u.
        square_STP: mean squared length of that term.
        field_STF: mean beta; sums to one.
    """

    fields: tuple[str, ...]
    pairs: tuple[tuple[str, str], ...]
    scenarios: tuple[str, ...]
    tasks: tuple[str, ...]
    samples_S: Tensor
    pair_STP: Tensor
    open_STP: Tensor
    added_STPE: Tensor
    square_STP: Tensor
    field_STF: Tensor

    def strength(self) -> Tensor:
        """Return the standard deviation over samples of the term that a pair adds to u, (S, T, P).

        It is the root mean squared distance from the mean vector. A pair with a large weight but a tiny m_p, or with a
        constant term, does not distinguish samples and has strength 0.
        """
        return (self.square_STP - self.added_STPE.square().sum(dim=3)).clamp_min(0).sqrt()

    def joined(self, other: Importance) -> Importance:
        """Return the means over the samples of both batches."""
        samples_S = self.samples_S + other.samples_S
        share_S = other.samples_S / samples_S.clamp_min(1)
        means = (
            mine + share_S.view(-1, *[1] * (mine.ndim - 1)) * (theirs - mine)
            for mine, theirs in zip(self._means(), other._means(), strict=True)
        )
        return Importance(self.fields, self.pairs, self.scenarios, self.tasks, samples_S, *means)

    def _means(self) -> tuple[Tensor, ...]:
        return self.pair_STP, self.open_STP, self.added_STPE, self.square_STP, self.field_STF


def importance(
    attended: Sequence[AttentionOutput],
    scales: Sequence[Tensor],
    fields: tuple[str, ...],
    pairs: tuple[tuple[str, str], ...],
    scenarios: tuple[str, ...],
    tasks: tuple[str, ...],
) -> Importance:
    """Return the means over samples.

    Args:
        attended: one per scenario.
        scales: for each scenario, q (T, P), the factor of the pair weights.
        fields: names.
        pairs: names.
        scenarios: names.
        tasks: names.
    """
    samples_S = torch.tensor([len(part.samples) for part in attended], dtype=torch.float64)
    moments = [_moments(part, scale_TP) for part, scale_TP in zip(attended, scales, strict=True)]
    pair_STP, open_STP, field_STF = (
        _means(values)
        for values in (
            [part.pair_RTP for part in attended],
            [(part.pair_RTP > 0).double() for part in attended],
            [part.field_RTF for part in attended],
        )
    )
    count_S = samples_S.clamp_min(1)
    added_STPE = torch.stack([added for added, _ in moments]).cpu() / count_S[:, None, None, None]
    square_STP = torch.stack([square for _, square in moments]).cpu() / count_S[:, None, None]
    return Importance(fields, pairs, scenarios, tasks, samples_S, pair_STP, open_STP, added_STPE, square_STP, field_STF)


def _moments(part: AttentionOutput, scale_TP: Tensor) -> tuple[Tensor, Tensor]:
    """Return the sums over samples of the terms q_p alpha_p r_p (T, P, E) and of their squared lengths (T, P)."""
    width = part.pair_RPE.shape[2]
    added_TPE = torch.zeros(*scale_TP.shape, width, dtype=torch.float64, device=scale_TP.device)
    square_TP = torch.zeros_like(scale_TP, dtype=torch.float64)
    for start in range(0, len(part.samples), _BLOCK):
        block = slice(start, start + _BLOCK)
        weight_RTP = part.pair_RTP[block] * scale_TP
        term_RTPE = weight_RTP.unsqueeze(3) * part.pair_RPE[block].unsqueeze(1)
        added_TPE += term_RTPE.sum(dim=0, dtype=torch.float64)
        square_TP += term_RTPE.double().square().sum(dim=(0, 3))
    return added_TPE, square_TP


def _means(values: Sequence[Tensor]) -> Tensor:
    """Return the means over samples, (S, T, ...) float64 on the CPU; 0 without samples."""
    return torch.stack([(value.sum(dim=0, dtype=torch.float64) / max(len(value), 1)).cpu() for value in values])

"""Attention of candidate items over the behaviours of a user.

Legend: B batch, N candidates, L history width, D width of an item's vector.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from stemlab.nn.mlp import MLP, Activation, MLPStyle


class DotAttention(nn.Module):
    """Logits ``<e_i, v> / sqrt(D)`` (TIN, arXiv 2308.08487; docs/methods/sequential.md#tin)."""

    def forward(self, behaviour_BLD: Tensor, target_BND: Tensor) -> Tensor:
        """Return the logits (B, N, L), padding included."""
        return torch.bmm(target_BND, behaviour_BLD.transpose(1, 2)) / math.sqrt(target_BND.shape[2])

    def cells(self, width: int) -> int:
        """Return the number of elements stored per candidate and behaviour for D = ``width``."""
        del width
        return 1


class ActivationUnit(nn.Module):
    """Logits of an MLP on ``[e_i, v, e_i - v, e_i * v]``, divided by ``sqrt(D)``.

    Zhou et al., "Deep Interest Network for Click-Through Rate Prediction", KDD 2018, figure 2, with the widths and the
    scaling of the code released with TIN.

    Args:
        width: D.
        hidden_units: widths of the hidden layers.
        activation: after each of them.
    """

    def __init__(self, width: int, hidden_units: Sequence[int], activation: Activation) -> None:
        super().__init__()
        self.unit = MLP(4 * width, hidden_units, 1, style=MLPStyle(activation))

    def forward(self, behaviour_BLD: Tensor, target_BND: Tensor) -> Tensor:
        """Return the logits (B, N, L), padding included."""
        shape = (*target_BND.shape[:2], *behaviour_BLD.shape[1:])
        e_BNLD, v_BNLD = behaviour_BLD.unsqueeze(1).expand(shape), target_BND.unsqueeze(2).expand(shape)
        pairs_BNLX = torch.cat([e_BNLD, v_BNLD, e_BNLD - v_BNLD, e_BNLD * v_BNLD], dim=3)
        logit: Tensor = self.unit(pairs_BNLX.flatten(0, 2))
        return logit.view(shape[:3]) / math.sqrt(shape[3])

    def cells(self, width: int) -> int:
        """Return the number of elements stored per candidate and behaviour for D = ``width``."""
        return 7 * width


def attention_weights(logit_BNL: Tensor, history_BL: Tensor, *, may_be_empty: bool = False) -> Tensor:
    """Return the softmax over the behaviours, padding (id 0) masked, (B, N, L).

    Args:
        logit_BNL: logits of candidates and behaviours.
        history_BL: ids of the behaviours.
        may_be_empty: whether a history may have no behaviour; its weights are 0 then, otherwise NaN.
    """
    padding_B1L = (history_BL == 0).unsqueeze(1)
    if not may_be_empty:
        return logit_BNL.masked_fill(padding_B1L, -torch.inf).softmax(dim=2)
    least = torch.finfo(logit_BNL.dtype).min
    return logit_BNL.masked_fill(padding_B1L, least).softmax(dim=2).masked_fill(padding_B1L, 0)


def attend(
    attention: nn.Module,
    behaviour_BLD: Tensor,
    target_BND: Tensor,
    history_BL: Tensor,
    *,
    target_aware: bool,
    may_be_empty: bool = False,
) -> Tensor:
    """Return u = sum_j alpha_j e_j, or with ``target_aware`` u = sum_j alpha_j (e_j * v), (B, N, D).

    Args:
        attention: returns the logits of e and v; alpha is their softmax over the behaviours.
        behaviour_BLD: behaviours e.
        target_BND: targets v.
        history_BL: ids of the behaviours, 0 at padding.
        target_aware: multiply the behaviours by the target.
        may_be_empty: whether a history may have no behaviour; u is 0 then.
    """
    weight_BNL = attention_weights(attention(behaviour_BLD, target_BND), history_BL, may_be_empty=may_be_empty)
    summed_BND = torch.bmm(weight_BNL, behaviour_BLD)
    # sum_j alpha_j (e_j * v) = (sum_j alpha_j e_j) * v
    return summed_BND * target_BND if target_aware else summed_BND


class TemporalEncoding(nn.Module):
    """Embeddings of the position and of the age of a behaviour, relative to the target (position and bucket 0).

    Args:
        positions: largest position (the oldest behaviour of the longest history), or ``None`` for no positions.
        time_buckets: largest bucket of ages, or ``None`` for no ages.
        width: D.
    """

    def __init__(self, positions: int | None, time_buckets: int | None, width: int) -> None:
        super().__init__()
        self.positions = None if positions is None else nn.Embedding(positions + 1, width)
        self.ages = None if time_buckets is None else nn.Embedding(time_buckets + 1, width)

    def forward(self, position: Tensor, bucket: Tensor | None) -> Tensor:
        """Return the sum of the vectors (..., D) of positions and buckets."""
        terms = [] if self.positions is None else [self.positions(position)]
        if self.ages is not None:
            terms.append(self.ages(bucket))
        return torch.stack(terms).sum(0)

    def target(self) -> Tensor:
        """Return the encoding of the target (D,)."""
        return torch.stack([table.weight[0] for table in (self.positions, self.ages) if table is not None]).sum(0)

    def tables(self) -> dict[str, Tensor]:
        """Return the tables by name."""
        named = {"position": self.positions, "time_gap": self.ages}
        return {name: table.weight for name, table in named.items() if table is not None}


def age_buckets(time_BL: Tensor, length_B: Tensor, most: int) -> Tensor:
    """Return buckets (B, L) of the seconds between a behaviour and the newest one.

    The newest is in bucket 1; an age of s seconds is in bucket ``1 + floor(log2(1 + s))``, at most ``most``.
    The released code measures ages from the time of the target, which is unknown when recommending.
    """
    newest_B1 = time_BL.gather(1, length_B.unsqueeze(1) - 1)
    age_BL = (newest_B1 - time_BL).clamp(min=0).double()
    return (1 + torch.log2(1 + age_BL).floor().long()).clamp(max=most)

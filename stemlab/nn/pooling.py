"""Pools lists of values to one vector per field (docs/inputs.md#pooling).

Legend: B batch, L values per list, K columns of all lists of ids, W columns of all lists of weights, S blocks,
D width of a block, X width of an item's vector in the attention: D, or 2D with categories.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from stemlab.data.list_layout import ListColumns, list_columns, values_of
from stemlab.data.spec import Field
from stemlab.nn.interest import position_ids
from stemlab.nn.target_attention import ActivationUnit, DotAttention, TemporalEncoding, age_buckets, attend

TIME_BUCKETS = 32
"""Buckets of ages of ``tin``, as in the default of the sequential network."""


@dataclass(slots=True)
class ListRows:
    """One list of a batch.

    Attributes:
        ids_BL: ids, 0 at padding.
        row_BLSD: embeddings, one row of D per block.
        weight_BL: weights, 0 at padding.
        ages_BL: seconds before the last value, or ``None``.
        target_BSD: vector of the target field, or ``None``.
    """

    ids_BL: Tensor
    row_BLSD: Tensor
    weight_BL: Tensor
    ages_BL: Tensor | None
    target_BSD: Tensor | None


class ListPooling(nn.Module):
    """Lists of ids -> one vector (B, S*D) per list. An empty list gives a zero vector.

    Args:
        fields: fields that hold lists.
        blocks: S; attention has parameters of its own for each block.
        width: D.
    """

    def __init__(self, fields: Sequence[Field], blocks: int, width: int) -> None:
        super().__init__()
        self.fields = tuple(fields)
        self.names = tuple(field.name for field in fields)
        self.columns, (_, weights) = list_columns(fields)
        self.weighted = weights > 0
        self.shape = (blocks, width)
        values = {field.name: values_of(field) for field in fields}
        # per list, the positions of the lists that are pooled together: a sequence and its categories
        self.groups = [
            [n, *(m for m, other in enumerate(self.names) if values[other].part_of == name)]
            for n, name in enumerate(self.names)
            if values[name].part_of is None
        ]
        self.pools = nn.ModuleList(_pool_of(fields[group[0]], len(group), blocks, width) for group in self.groups)

    def forward(
        self,
        list_ids_BK: Tensor,
        list_weights_BW: Tensor | None,
        tables: Mapping[str, nn.Module],
        vectors: Mapping[str, Tensor],
    ) -> list[Tensor]:
        """Return one vector (B, S*D) per list.

        Args:
            list_ids_BK: ids and ages of all lists (``stemlab.data.list_layout``).
            list_weights_BW: weights of all weighted lists.
            tables: list -> its embedding table, whose rows are (S*D,).
            vectors: categorical field -> its vector (B, S*D).
        """
        pooled: dict[int, Tensor] = {}
        for group, pool in zip(self.groups, self.pools, strict=True):
            rows = [self._rows(n, list_ids_BK, list_weights_BW, tables, vectors) for n in group]
            pooled |= dict(zip(group, pool(rows), strict=True))
        return [pooled[n].flatten(1) for n in range(len(self.fields))]

    def _rows(
        self,
        number: int,
        list_ids_BK: Tensor,
        list_weights_BW: Tensor | None,
        tables: Mapping[str, nn.Module],
        vectors: Mapping[str, Tensor],
    ) -> ListRows:
        field, own = self.fields[number], self.columns[number]
        ids_BL = list_ids_BK[:, own.ids]
        rows = tables[field.name](ids_BL.reshape(-1))  # flat, as lookups of single values are
        target = values_of(field).target
        return ListRows(
            ids_BL,
            rows.view(*ids_BL.shape, *self.shape),
            _weights(ids_BL, own, list_weights_BW, rows.dtype),
            None if own.ages is None else list_ids_BK[:, own.ages],
            None if target is None else vectors[target].view(-1, *self.shape),
        )


def _weights(ids_BL: Tensor, own: ListColumns, list_weights_BW: Tensor | None, dtype: torch.dtype) -> Tensor:
    given_BL = (ids_BL != 0).to(dtype)
    if own.weights is None or list_weights_BW is None:
        return given_BL
    return given_BL * list_weights_BW[:, own.weights]


def _pool_of(field: Field, parts: int, blocks: int, width: int) -> nn.Module:
    values = values_of(field)
    if values.pooling in ("mean", "sum"):
        return SumPool(mean=values.pooling == "mean")
    if values.pooling == "attention":
        return QueryPool(blocks, width)
    units = None if values.pooling == "tin" else values.attention_units
    encoded = (values.max_length, values.times) if values.pooling == "tin" else None
    return TargetPool(blocks, parts * width, units, encoded, target_aware=values.pooling != "din")


class SumPool(nn.Module):
    """``sum_j w_j e_j``, divided by ``sum_j w_j`` for the mean; w is 1 without weights."""

    def __init__(self, *, mean: bool) -> None:
        super().__init__()
        self.mean = mean

    def forward(self, lists: Sequence[ListRows]) -> list[Tensor]:
        """Return the pooled vector (B, S, D) of each list."""
        return [self._sum(own) for own in lists]

    def _sum(self, own: ListRows) -> Tensor:
        weight_BL = own.weight_BL
        if self.mean:
            total_B1 = weight_BL.sum(dim=1, keepdim=True)
            weight_BL = weight_BL / total_B1.masked_fill(total_B1 == 0, 1)
        return (own.row_BLSD * weight_BL[:, :, None, None]).sum(dim=1)


class QueryPool(nn.Module):
    """``sum_j alpha_j e_j`` with ``alpha_j`` proportional to ``w_j exp(<e_j, q> / sqrt(D))``; q is learned per block.

    q is zero at first, so training starts from the weighted mean.
    """

    def __init__(self, blocks: int, width: int) -> None:
        super().__init__()
        self.query_SD = nn.Parameter(torch.zeros(blocks, width))

    def forward(self, lists: Sequence[ListRows]) -> list[Tensor]:
        """Return the pooled vector (B, S, D) of each list."""
        return [self._attend(own) for own in lists]

    def _attend(self, own: ListRows) -> Tensor:
        score_BLS = (own.row_BLSD * self.query_SD).sum(dim=3) / math.sqrt(own.row_BLSD.shape[3])
        left_out_BL1 = (own.weight_BL <= 0).unsqueeze(2)
        log_BL1 = own.weight_BL.unsqueeze(2).masked_fill(left_out_BL1, 1).log()
        least = torch.finfo(score_BLS.dtype).min
        alpha_BLS = (score_BLS + log_BL1).masked_fill(left_out_BL1, least).softmax(dim=1).masked_fill(left_out_BL1, 0)
        return (own.row_BLSD * alpha_BLS.unsqueeze(3)).sum(dim=1)


class TargetPool(nn.Module):
    """Attention of the target over a sequence: DIN, DIN+ or TIN, as in the sequential networks of these names.

    An item's vector is its embedding, or [embedding; embedding of its category], and the pooled vector is split in the
    same way (docs/methods/sequential.md#din, #din_plus, #tin). Each block has its own attention.

    Args:
        blocks: S.
        width: X.
        units: hidden widths of the attention MLP; ``None``: scaled dot product.
        encoded: longest sequence and whether there are ages, for the temporal encoding of ``tin``; ``None``: none.
        target_aware: multiply the items by the target.
    """

    def __init__(
        self,
        blocks: int,
        width: int,
        units: Sequence[int] | None,
        encoded: tuple[int, bool] | None,
        *,
        target_aware: bool,
    ) -> None:
        super().__init__()
        self.target_aware = target_aware
        self.attentions = nn.ModuleList(
            DotAttention() if units is None else ActivationUnit(width, units, "sigmoid") for _ in range(blocks)
        )
        self.encodings: nn.ModuleList | None = None
        if encoded is not None:
            length, times = encoded
            buckets = TIME_BUCKETS if times else None
            self.encodings = nn.ModuleList(TemporalEncoding(length, buckets, width) for _ in range(blocks))

    def forward(self, lists: Sequence[ListRows]) -> list[Tensor]:
        """Return the pooled vector (B, S, D) of each list; the first list is the items."""
        ids_BL = lists[0].ids_BL
        row_BLSX = torch.cat([own.row_BLSD for own in lists], dim=3)
        target_BSX = torch.cat([own.target_BSD for own in lists if own.target_BSD is not None], dim=2)
        position_BL = bucket_BL = None
        if self.encodings is not None:
            length_B = (ids_BL != 0).sum(dim=1)
            position_BL = position_ids(length_B, ids_BL.shape[1])
            if lists[0].ages_BL is not None:
                bucket_BL = age_buckets(-lists[0].ages_BL, length_B.clamp(min=1), TIME_BUCKETS)
        pooled = []
        for s, attention in enumerate(self.attentions):
            behaviour_BLX, target_B1X = row_BLSX[:, :, s], target_BSX[:, s : s + 1]
            if self.encodings is not None:
                encoding = self.encodings[s]
                assert isinstance(encoding, TemporalEncoding)
                behaviour_BLX = behaviour_BLX + encoding(position_BL, bucket_BL)
                target_B1X = target_B1X + encoding.target()
            pooled_B1X = attend(
                attention, behaviour_BLX, target_B1X, ids_BL, target_aware=self.target_aware, may_be_empty=True
            )
            pooled.append(pooled_B1X.squeeze(1))
        return list(torch.stack(pooled, dim=1).chunk(len(lists), dim=2))

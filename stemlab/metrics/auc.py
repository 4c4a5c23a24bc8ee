"""Area under the ROC curve over all samples and within groups; exact, ties count half (docs/methods/metrics.md#auc).

Pairs are counted in integers after one sort: the AUC of a group is (pairs in which the positive scores higher + half of
the tied pairs) / (positives * negatives). The result does not depend on the order of the samples.

Conventions of the released code (docs/methods/metrics.md#gauc): gAUC weights a group by its number of samples, avgAUC
weights all groups equally, and both exclude groups with one class only.

Legend: B samples, G groups, P positives.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np

from stemlab.array_types import AnyArray, Float64Array, Int64Array, UInt64Array
from stemlab.types import MISSING_GROUP

GroupWeighting = Literal["rows", "equal"]
# A sample is encoded as one integer: 31 bits of group, 32 of score, 1 of label.
_GROUP_LIMIT, _GROUP_SHIFT, _LABEL = 1 << 31, np.uint64(33), np.uint64(1)


@dataclass(frozen=True, slots=True)
class GroupAUC:
    """AUC of each group, ordered by group key.

    Attributes:
        key_G: group keys.
        auc_G: float64; NaN for groups with one class only.
        rows_G: number of samples per group.
    """

    key_G: AnyArray
    auc_G: Float64Array
    rows_G: Int64Array

    def mean(self, weighting: GroupWeighting = "rows") -> float:
        """Return the mean AUC over groups with both classes; NaN if there is none."""
        defined = ~np.isnan(self.auc_G)
        if not defined.any():
            return float("nan")
        weights = self.rows_G[defined] if weighting == "rows" else None
        return float(np.average(self.auc_G[defined], weights=weights))


def auc(labels: AnyArray, scores: AnyArray) -> float:
    """Return the AUC.

    Args:
        labels: (B,) values 0 or 1.
        scores: (B,) real scores; higher means more likely positive.

    Returns:
        The AUC; NaN for one class only, no samples, or a NaN score.
    """
    return group_auc(labels, scores, np.zeros(len(labels), dtype=np.int64)).mean()


def gauc(labels: AnyArray, scores: AnyArray, groups: AnyArray, weighting: GroupWeighting = "rows") -> float:
    """Return the mean AUC over groups.

    Args:
        labels: (B,) values 0 or 1.
        scores: (B,) scores.
        groups: (B,) integer group keys in any order; samples with ``MISSING_GROUP`` are left out.
        weighting: ``rows``: by number of samples (gAUC); ``equal``: all groups equally (avgAUC).

    Returns:
        The mean over groups with both classes; NaN without such groups or with a NaN score.
    """
    return group_auc(labels, scores, groups).mean(weighting)


def group_auc(labels: AnyArray, scores: AnyArray, groups: AnyArray) -> GroupAUC:
    """Return the AUC of every group; arguments as for ``gauc``."""
    labels, scores, groups = np.asarray(labels), np.asarray(scores), np.asarray(groups, dtype=np.int64)
    if (missing_B := groups == MISSING_GROUP).any():
        labels, scores, groups = labels[~missing_B], scores[~missing_B], groups[~missing_B]
    if len(groups) == 0:
        return GroupAUC(groups, np.empty(0), np.empty(0, dtype=np.int64))
    code_B, key_of_code = _group_codes(groups)
    # sorting one integer per sample is several times faster than an argsort by two or three columns
    row_B = code_B << _GROUP_SHIFT
    row_B |= _order_preserving(scores) << _LABEL
    row_B |= (labels > 0).astype(np.uint64)
    row_B.sort()
    first_G = _starts(row_B >> _GROUP_SHIFT)
    wins_G, pos_G, neg_G = _count_pairs(row_B, first_G)
    with np.errstate(invalid="ignore"):
        auc_G = np.where(pos_G * neg_G > 0, wins_G / (2.0 * pos_G * neg_G), np.nan)
    if np.isnan(scores).any():
        auc_G[:] = np.nan
    return GroupAUC(key_of_code((row_B[first_G] >> _GROUP_SHIFT).astype(np.int64)), auc_G, pos_G + neg_G)


def _group_codes(groups: AnyArray) -> tuple[UInt64Array, Callable[[AnyArray], AnyArray]]:
    """Return codes (B,) below 2^31 in the order of the keys, and a function from codes to keys."""
    least = groups.min()
    if int(groups.max()) - int(least) < _GROUP_LIMIT:
        return (groups - least).astype(np.uint64), lambda code_G: code_G + least
    import pandas as pd  # not needed for group ids of a prepared dataset; takes half a second

    code_B, known = pd.factorize(groups, sort=True)
    return code_B.astype(np.uint64), lambda code_G: np.asarray(known)[code_G]


def _order_preserving(scores: AnyArray) -> UInt64Array:
    """Return integers below 2^32 that sort like the scores; equal scores give equal integers."""
    if scores.dtype != np.float32:
        return np.unique(scores, return_inverse=True)[1].astype(np.uint64)
    bits = (scores + np.float32(0)).view(np.uint32)  # adding 0 makes -0.0 equal to 0.0
    if scores.min() >= 0:  # the bits of positive floats sort like the floats
        return bits.astype(np.uint64)
    # the bits of negative floats sort in reverse order and must be below those of positive ones
    return np.where(bits >> 31, ~bits, bits | np.uint32(1 << 31)).astype(np.uint64)


def _count_pairs(row_B: UInt64Array, first_G: Int64Array) -> tuple[Int64Array, Int64Array, Int64Array]:
    """Return per group: 2 * (pairs in which the positive scores higher) + tied pairs, positives, negatives; (G,) each.

    Args:
        row_B: encoded samples, sorted; among equal scores negatives come first.
        first_G: index of the first sample of each group.
    """
    at_P = np.flatnonzero((row_B & _LABEL).astype(bool))
    # all negatives before a positive score lower or tie: count them twice, then subtract the ties once
    won_P = at_P - np.arange(len(at_P))
    tie_of_P = row_B[at_P] ^ _LABEL  # the encoded negative that ties with this positive
    opens_P = np.flatnonzero((at_P > 0) & (row_B[at_P - 1] == tie_of_P))  # first positive after tied negatives
    ties_P = np.zeros(len(at_P), dtype=np.int64)
    tied_negatives = at_P[opens_P] - np.searchsorted(row_B, tie_of_P[opens_P])
    tied_positives = np.searchsorted(row_B, row_B[at_P[opens_P]], side="right") - at_P[opens_P]
    ties_P[opens_P] = tied_negatives * tied_positives
    bounds = np.searchsorted(at_P, np.append(first_G, len(row_B)))
    sums_P = np.concatenate(([0], np.cumsum(2 * won_P - ties_P)))
    pos_G = np.diff(bounds)
    neg_G = np.diff(first_G, append=len(row_B)) - pos_G
    before_G = first_G - bounds[:-1]  # negatives of earlier groups
    return np.diff(sums_P[bounds]) - 2 * before_G * pos_G, pos_G, neg_G


def _starts(values: AnyArray) -> Int64Array:
    """Return the index of the first element of each run of equal values."""
    return np.flatnonzero(np.concatenate(([True], values[1:] != values[:-1])))

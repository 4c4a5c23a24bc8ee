"""Area under the ROC curve, over all rows and within groups of rows; exact, ties count half.

Every function counts pairs in integers after one sort: the AUC of a group is (pairs in which the positive row scores
higher + half the pairs that tie) / (positive rows * negative rows). The order of the rows does not matter.

Published conventions (golden vectors of the reference implementation): gAUC weights a group by its rows, avgAUC weights
every group alike, and groups that hold one class only are left out of both sums.

Legend: B rows, G groups.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from stemlab.array_types import AnyArray, Float64Array, Int64Array

GroupWeighting = Literal["rows", "equal"]
# A row becomes one integer: 31 bits of group, 32 of score, 1 of label.
_GROUP_LIMIT, _GROUP_SHIFT, _LABEL = 1 << 31, np.uint64(33), np.uint64(1)


@dataclass(frozen=True, slots=True)
class GroupAUC:
    """AUC of each group, ordered by group key.

    Attributes:
        key_G: group keys.
        auc_G: float64; nan where the group holds one class only.
        rows_G: rows in the group.
    """

    key_G: AnyArray
    auc_G: Float64Array
    rows_G: Int64Array

    def mean(self, weighting: GroupWeighting = "rows") -> float:
        """Return the mean over groups with both classes (nan if there is none)."""
        defined = ~np.isnan(self.auc_G)
        if not defined.any():
            return float("nan")
        weights = self.rows_G[defined] if weighting == "rows" else None
        return float(np.average(self.auc_G[defined], weights=weights))


def auc(labels: AnyArray, scores: AnyArray) -> float:
    """Return the AUC.

    Args:
        labels: (B,) values 0 or 1.
        scores: (B,) any real scores, higher for more likely.

    Returns:
        The AUC, or nan where it is undefined: one class only, no rows, or a score that is not a number.
    """
    return group_auc(labels, scores, np.zeros(len(labels), dtype=np.int64)).mean()


def gauc(labels: AnyArray, scores: AnyArray, groups: AnyArray, weighting: GroupWeighting = "rows") -> float:
    """Return the mean AUC within groups.

    Args:
        labels: (B,) values 0 or 1.
        scores: (B,) scores.
        groups: (B,) integer group keys in any order.
        weighting: ``rows`` weights a group by its rows (published gAUC), ``equal`` every group alike (avgAUC).

    Returns:
        The mean over groups with both classes, or nan if there is no such group or a score is not a number.
    """
    return group_auc(labels, scores, groups).mean(weighting)


def group_auc(labels: AnyArray, scores: AnyArray, groups: AnyArray) -> GroupAUC:
    """Return the AUC of every group; arguments as for ``gauc``."""
    labels, scores, groups = np.asarray(labels), np.asarray(scores), np.asarray(groups, dtype=np.int64)
    if len(groups) == 0:
        return GroupAUC(groups, np.empty(0), np.empty(0, dtype=np.int64))
    code_B, key_of_code = _group_codes(groups)
    # Sorting one plain integer a row is several times faster than sorting row numbers by two or three columns.
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


def _group_codes(groups: AnyArray) -> tuple[NDArray[np.uint64], Callable[[AnyArray], AnyArray]]:
    """Return codes below 2^31 in the order of the keys, and the way back from code to key."""
    least = groups.min()
    if int(groups.max()) - int(least) < _GROUP_LIMIT:
        return (groups - least).astype(np.uint64), lambda code_G: code_G + least
    code_B, known = pd.factorize(groups, sort=True)
    return code_B.astype(np.uint64), lambda code_G: np.asarray(known)[code_G]


def _order_preserving(scores: AnyArray) -> NDArray[np.uint64]:
    """Return integers below 2^32 in the order of the scores, equal where scores are equal."""
    if scores.dtype != np.float32:
        return np.unique(scores, return_inverse=True)[1].astype(np.uint64)
    bits = (scores + np.float32(0)).view(np.uint32)  # adding 0 makes -0.0 equal to 0.0
    if scores.min() >= 0:  # bits of positive floats sort as the floats do
        return bits.astype(np.uint64)
    # Those of negative ones sort backwards and belong below.
    return np.where(bits >> 31, ~bits, bits | np.uint32(1 << 31)).astype(np.uint64)


def _count_pairs(row_B: NDArray[np.uint64], first_G: Int64Array) -> tuple[Int64Array, Int64Array, Int64Array]:
    """Return (G,) twice the pairs won (a tie counts one), positive rows and negative rows.

    Args:
        row_B: rows as integers, sorted; among equal scores the negative rows come first.
        first_G: where each group begins.
    """
    at_P = np.flatnonzero((row_B & _LABEL).astype(bool))  # P positive rows
    # Negatives up to a positive row score lower or tie: count all of them as won, then take the ties back once.
    won_P = at_P - np.arange(len(at_P))
    tie_of_P = row_B[at_P] ^ _LABEL  # the negative row that would tie with it
    opens_P = np.flatnonzero((at_P > 0) & (row_B[at_P - 1] == tie_of_P))  # first positive behind negatives it ties with
    ties_P = np.zeros(len(at_P), dtype=np.int64)
    tied_negatives = at_P[opens_P] - np.searchsorted(row_B, tie_of_P[opens_P])
    tied_positives = np.searchsorted(row_B, row_B[at_P[opens_P]], side="right") - at_P[opens_P]
    ties_P[opens_P] = tied_negatives * tied_positives
    bounds = np.searchsorted(at_P, np.append(first_G, len(row_B)))
    sums_P = np.concatenate(([0], np.cumsum(2 * won_P - ties_P)))
    pos_G = np.diff(bounds)
    neg_G = np.diff(first_G, append=len(row_B)) - pos_G
    before_G = first_G - bounds[:-1]  # negatives of the groups before
    return np.diff(sums_P[bounds]) - 2 * before_G * pos_G, pos_G, neg_G


def _starts(values: AnyArray) -> Int64Array:
    """Return where each run of equal values begins."""
    return np.flatnonzero(np.concatenate(([True], values[1:] != values[:-1])))

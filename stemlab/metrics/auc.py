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
from typing import Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

Weighting = Literal["rows", "equal"]
_SCORE = np.uint64(32)
_LABEL = np.uint64(1)
_GROUP_LIMIT = 1 << 31
"""A row becomes one integer of 31 bits of group, 32 of score and 1 of label."""


@dataclass(frozen=True, slots=True)
class GroupAUC:
    """AUC of each group, ordered by group key.

    Attributes:
        key_G: group keys.
        auc_G: float64; nan where the group holds one class only.
        rows_G: rows in the group.
    """

    key_G: NDArray[Any]
    auc_G: NDArray[np.float64]
    rows_G: NDArray[np.int64]

    def mean(self, weighting: Weighting = "rows") -> float:
        """Return the mean over groups with both classes (nan if there is none)."""
        defined = ~np.isnan(self.auc_G)
        if not defined.any():
            return float("nan")
        weights = self.rows_G[defined] if weighting == "rows" else None
        return float(np.average(self.auc_G[defined], weights=weights))


def auc(labels: NDArray[Any], scores: NDArray[Any]) -> float:
    """Return the AUC.

    Args:
        labels: (B,) values 0 or 1.
        scores: (B,) any real scores, higher for more likely.

    Returns:
        The AUC, or nan where it is undefined: one class only, no rows, or a score that is not a number.
    """
    return group_auc(labels, scores, np.zeros(len(labels), dtype=np.int64)).mean()


def gauc(labels: NDArray[Any], scores: NDArray[Any], groups: NDArray[Any], weighting: Weighting = "rows") -> float:
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


def group_auc(labels: NDArray[Any], scores: NDArray[Any], groups: NDArray[Any]) -> GroupAUC:
    """Return the AUC of every group; arguments as for ``gauc``."""
    labels, scores, groups = np.asarray(labels), np.asarray(scores), np.asarray(groups, dtype=np.int64)
    if len(groups) == 0:
        return GroupAUC(groups, np.empty(0), np.empty(0, dtype=np.int64))
    code_B, key_of_code = _group_codes(groups)
    # Sorting one plain integer a row is several times faster than sorting row numbers by two or three columns.
    row_B = code_B << (_SCORE + _LABEL) | _order_preserving(scores) << _LABEL | labels.astype(np.uint64)
    row_B.sort()
    code_G, wins_G, pos_G, neg_G = _count_pairs(row_B >> _LABEL, (row_B & _LABEL).astype(np.int64))
    with np.errstate(invalid="ignore"):
        auc_G = np.where(pos_G * neg_G > 0, wins_G / (2.0 * pos_G * neg_G), np.nan)
    if np.isnan(scores).any():
        auc_G[:] = np.nan
    return GroupAUC(key_of_code(code_G), auc_G, pos_G + neg_G)


def _group_codes(groups: NDArray[Any]) -> tuple[NDArray[np.uint64], Callable[[NDArray[Any]], NDArray[Any]]]:
    """Return codes below 2^31 in the order of the keys, and the way back from code to key."""
    least = groups.min()
    if int(groups.max()) - int(least) < _GROUP_LIMIT:
        return (groups - least).astype(np.uint64), lambda code_G: code_G + least
    code_B, known = pd.factorize(groups, sort=True)
    return code_B.astype(np.uint64), lambda code_G: np.asarray(known)[code_G]


def _order_preserving(scores: NDArray[Any]) -> NDArray[np.uint64]:
    """Return integers below 2^32 in the order of the scores, equal where scores are equal."""
    if scores.dtype != np.float32:
        return np.unique(scores, return_inverse=True)[1].astype(np.uint64)
    bits = (scores + np.float32(0)).view(np.uint32)  # adding 0 makes -0.0 equal to 0.0
    # Bits of positive floats already sort as the floats do; negative ones sort backwards and belong below.
    return np.where(bits >> 31, ~bits, bits | np.uint32(1 << 31)).astype(np.uint64)


def _count_pairs(
    tie_B: NDArray[np.uint64], positive_B: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Return (G,) group codes, twice the pairs won (a tie counts one), positive rows and negative rows.

    Args:
        tie_B: sorted; rows with the same value tie, and ``value >> 32`` is the group's code.
        positive_B: 1 where the row is positive.
    """
    start_K = _starts(tie_B)  # K blocks of rows that tie
    rows_K = np.diff(start_K, append=len(tie_B))
    pos_K = np.add.reduceat(positive_B, start_K)
    neg_K = rows_K - pos_K
    code_K = (tie_B[start_K] >> _SCORE).astype(np.int64)
    first_G = _starts(code_K)
    below_K = np.cumsum(neg_K) - neg_K  # negatives in the blocks before, then in those of the same group
    below_K -= np.repeat(below_K[first_G], np.diff(first_G, append=len(code_K)))
    wins_K = pos_K * (2 * below_K + neg_K)
    wins_G, pos_G, neg_G = (np.add.reduceat(x_K, first_G) for x_K in (wins_K, pos_K, neg_K))
    return code_K[first_G], wins_G, pos_G, neg_G


def _starts(values: NDArray[Any]) -> NDArray[np.int64]:
    """Return where each run of equal values begins."""
    return np.flatnonzero(np.concatenate(([True], values[1:] != values[:-1])))

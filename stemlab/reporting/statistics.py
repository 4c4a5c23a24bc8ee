"""Tests of differences between models: paired over seeds, over samples, over users; correction for many tests.

Legend: K models, N seeds, B samples, P positives, Q negatives, G and H groups (users), R resamples.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from stemlab.array_types import AnyArray, Float64Array

_DRAWS_AT_ONCE = 1 << 18  # of a bootstrap: 2 MB of indices


@dataclass(frozen=True)
class TestedDifference:
    """A difference between two models and its test.

    Attributes:
        difference: first minus second model.
        standard_error: estimated standard deviation of the difference.
        p: two-sided p-value of the hypothesis that the difference is zero; NaN if it is undefined.
    """

    difference: float
    standard_error: float
    p: float


def blocked_t(values_KN: AnyArray, first: int, second: int) -> tuple[TestedDifference, int]:
    """Return the mean difference of two models with the p-value of a t-test, and its degrees of freedom.

    The seeds are blocks of a randomised block design: the variance of what seed and model do not explain is estimated
    from all K models, with (K - 1)(N - 1) degrees of freedom, because that of a few seeds alone is very uncertain. With
    K = 2 it is the paired t-test. Models are assumed to vary equally over seeds. Without variation, p is 1 for equal
    means and 0 otherwise; with fewer than two seeds it is NaN.

    Args:
        values_KN: metric of K models for N seeds.
        first: index of the first model.
        second: index of the second model.
    """
    from scipy.stats import t

    values_KN = np.asarray(values_KN, dtype=np.float64)
    models, seeds = values_KN.shape
    difference, df = float((values_KN[first] - values_KN[second]).mean()), (models - 1) * (seeds - 1)
    if not df:
        return TestedDifference(difference, math.nan, math.nan), df
    rest_KN = values_KN - values_KN.mean(1, keepdims=True) - values_KN.mean(0) + values_KN.mean()
    error = math.sqrt(2 * float((rest_KN**2).sum()) / df / seeds)
    if error <= 1e-12 * abs(values_KN).max():  # rounding
        return TestedDifference(difference, 0.0, 1.0 if abs(difference) <= 1e-12 * abs(values_KN).max() else 0.0), df
    return TestedDifference(difference, error, float(2 * t.sf(abs(difference) / error, df))), df


def detectable_difference(standard_error: float, df: float, level: float = 0.05, power: float = 0.8) -> float:
    """Return the smallest difference that a single t-test finds with a given power.

    ``(t_{1 - level/2} + t_{power}) * standard_error``, the usual approximation (Cohen, Statistical Power Analysis for
    the Behavioral Sciences, 1988). NaN without degrees of freedom; with infinitely many, the normal distribution.
    """
    from scipy.stats import t

    return float((t.ppf(1 - level / 2, df) + t.ppf(power, df)) * standard_error) if df else math.nan


def holm(p_values: Sequence[float]) -> list[float]:
    """Return p-values adjusted by Holm's step-down method (Holm, 1979); NaN stays NaN and is not counted."""
    adjusted = [math.nan] * len(p_values)
    known = sorted((p, index) for index, p in enumerate(p_values) if not math.isnan(p))
    largest = 0.0
    for rank, (p, index) in enumerate(known):
        largest = max(largest, min(1.0, (len(known) - rank) * p))
        adjusted[index] = largest
    return adjusted


def delong(labels_B: AnyArray, first_B: AnyArray, second_B: AnyArray) -> TestedDifference:
    """Return the difference of two AUCs on the same samples with DeLong's test (DeLong et al., Biometrics 1988).

    The structural components are computed from midranks (Sun and Xu, IEEE Signal Processing Letters 2014), in
    O(B log B). NaN if the labels have one class.

    Args:
        labels_B: 0 or 1.
        first_B: scores of the first model.
        second_B: scores of the second model.
    """
    return delong_of_components(auc_components(labels_B, first_B), auc_components(labels_B, second_B))


@dataclass(frozen=True)
class AucComponents:
    """AUC and its structural components.

    Attributes:
        auc: the AUC, mean of either component; NaN for one class only.
        above_P: (P,) share of negatives below each positive.
        below_Q: (Q,) share of positives above each negative.
    """

    auc: float
    above_P: Float64Array
    below_Q: Float64Array


def delong_of_components(first: AucComponents, second: AucComponents) -> TestedDifference:
    """Return the difference of two AUCs with DeLong's test, from their structural components on the same samples."""
    from scipy.stats import norm

    positives, negatives, difference = len(first.above_P), len(first.below_Q), first.auc - second.auc
    if positives < 2 or negatives < 2:
        return TestedDifference(difference, math.nan, math.nan)
    variances = (first.above_P - second.above_P).var(ddof=1), (first.below_Q - second.below_Q).var(ddof=1)
    error = math.sqrt(variances[0] / positives + variances[1] / negatives)
    if error == 0:
        return TestedDifference(difference, 0.0, 1.0 if difference == 0 else 0.0)
    return TestedDifference(difference, error, float(2 * norm.sf(abs(difference) / error)))


def auc_components(labels_B: AnyArray, scores_B: AnyArray) -> AucComponents:
    """Return the AUC with its structural components; arguments as for ``delong``."""
    from scipy.stats import rankdata

    scores_B, positive_B = np.asarray(scores_B, dtype=np.float64), np.asarray(labels_B) > 0
    positives, negatives = int(positive_B.sum()), int((~positive_B).sum())
    if not positives or not negatives:
        return AucComponents(math.nan, np.empty(positives), np.empty(negatives))
    ranks_B = rankdata(scores_B)
    above_P = (ranks_B[positive_B] - rankdata(scores_B[positive_B])) / negatives
    below_Q = 1 - (ranks_B[~positive_B] - rankdata(scores_B[~positive_B])) / positives
    return AucComponents(float(above_P.mean()), above_P, below_Q)


def bootstrap_over_groups(
    first_G: AnyArray, second_G: AnyArray, weight_G: AnyArray | None = None, resamples: int = 2000, seed: int = 0
) -> TestedDifference:
    """Return the difference of two weighted means over groups with a bootstrap test over the groups.

    For HR and NDCG a group is a user and its value the mean over the user's samples; for gAUC it is the AUC of the
    group, weighted by its samples. Groups are drawn with replacement, the same ones for both models. The p-value is
    twice the smaller share of resamples on one side of zero, with one added to both counts (never 0).

    Args:
        first_G: values of the first model; NaN leaves a group out.
        second_G: values of the second model.
        weight_G: weights of the groups; ``None``: equal.
        resamples: number of resamples R.
        seed: seed of the resamples.
    """
    d_G = np.asarray(first_G, dtype=np.float64) - np.asarray(second_G, dtype=np.float64)
    w_G = np.ones_like(d_G) if weight_G is None else np.asarray(weight_G, dtype=np.float64)
    valid_G = ~np.isnan(d_G) & (w_G > 0)
    d_G, w_G = d_G[valid_G], w_G[valid_G]
    if not len(d_G):
        return TestedDifference(math.nan, math.nan, math.nan)
    rng, sums_R = np.random.default_rng(seed), np.empty(resamples)
    product_G = d_G * w_G
    step = max(1, _DRAWS_AT_ONCE // len(d_G))
    for start in range(0, resamples, step):
        drawn_RG = rng.integers(0, len(d_G), (min(step, resamples - start), len(d_G)))
        sums_R[start : start + step] = product_G[drawn_RG].sum(1) / w_G[drawn_RG].sum(1)
    difference = float(product_G.sum() / w_G.sum())
    if not product_G.any():
        return TestedDifference(difference, 0.0, 1.0)
    smaller = min(int((sums_R <= 0).sum()), int((sums_R >= 0).sum()))
    return TestedDifference(difference, float(sums_R.std(ddof=1)), min(1.0, 2 * (smaller + 1) / (resamples + 1)))


def bootstrap_auc_over_groups(
    labels_B: AnyArray,
    first_B: AnyArray,
    second_B: AnyArray,
    group_B: AnyArray,
    resamples: int = 2000,
    seed: int = 0,
) -> TestedDifference:
    """Return the difference of two AUCs on the same samples with a bootstrap test over groups.

    Groups (users) are drawn with replacement with all their samples, the same ones for both models, because samples of
    a group are not independent. The p-value is that of ``bootstrap_over_groups``. NaN if the labels have one class.

    Args:
        labels_B: 0 or 1.
        first_B: scores of the first model.
        second_B: scores of the second model.
        group_B: group of each sample.
        resamples: number of resamples R.
        seed: seed of the resamples.
    """
    _, index_B, size_G = np.unique(np.asarray(group_B), return_inverse=True, return_counts=True)
    positive_B, groups = np.asarray(labels_B) > 0, len(size_G)
    order_B = np.argsort(index_B, kind="stable")
    rows_P, rows_Q = order_B[positive_B[order_B]], order_B[~positive_B[order_B]]  # by group
    if not len(rows_P) or not len(rows_Q):
        return TestedDifference(math.nan, math.nan, math.nan)
    group_P, start_P = np.unique(index_B[rows_P], return_index=True)
    group_Q, start_Q = np.unique(index_B[rows_Q], return_index=True)
    count_G = np.bincount(index_B[rows_P], minlength=groups)
    above_PQ = np.zeros((len(rows_P), len(rows_Q)))
    for sign, scores_B in ((0.5, np.asarray(first_B)), (-0.5, np.asarray(second_B))):  # a tie counts half
        above_PQ += sign * np.sign(scores_B[rows_P][:, None] - scores_B[rows_Q])
    won_GH = np.add.reduceat(np.add.reduceat(above_PQ, start_Q, 1), start_P, 0)  # groups with positives, negatives
    difference = float(won_GH.sum() / len(rows_P) / len(rows_Q))
    if not won_GH.any():
        return TestedDifference(difference, 0.0, 1.0)
    drawn_RG = np.random.default_rng(seed).multinomial(groups, np.full(groups, 1 / groups), resamples).astype(float)
    pairs_R = (drawn_RG @ count_G) * (drawn_RG @ (size_G - count_G))
    sums_R = ((drawn_RG[:, group_P] @ won_GH) * drawn_RG[:, group_Q]).sum(1)
    sums_R = sums_R[pairs_R > 0] / pairs_R[pairs_R > 0]  # not resamples with one class
    smaller = min(int((sums_R <= 0).sum()), int((sums_R >= 0).sum()))
    p = min(1.0, 2 * (smaller + 1) / (len(sums_R) + 1))
    return TestedDifference(difference, float(sums_R.std(ddof=1)), p)


def overlapping_t(differences_N: AnyArray, test_to_train: float) -> TestedDifference:
    """Return the mean difference over random splits of the same samples with a corrected paired t-test.

    Training sets overlap, so differences are not independent and the paired t-test finds too much. The variance of the
    mean is ``(1 / N + test samples / training samples)`` times the variance of the differences (Nadeau and Bengio,
    Machine Learning 2003). NaN with fewer than two splits.

    Args:
        differences_N: difference of two models on each split.
        test_to_train: test samples divided by training samples.
    """
    from scipy.stats import t

    differences_N = np.asarray(differences_N, dtype=np.float64)
    mean, splits = float(differences_N.mean()), len(differences_N)
    if splits < 2:
        return TestedDifference(mean, math.nan, math.nan)
    error = math.sqrt((1 / splits + test_to_train) * float(differences_N.var(ddof=1)))
    if error == 0:
        return TestedDifference(mean, 0.0, 1.0 if mean == 0 else 0.0)
    return TestedDifference(mean, error, float(2 * t.sf(abs(mean) / error, splits - 1)))

"""Category-wise target-aware correlation: information of a behaviour's category and position about the label.

Source: "Temporal Interest Network" (WWW 2024, arXiv 2308.08487) and the released preprocessing;
docs/methods/recscope.md#ground-truth-correlation. Among the samples whose target has category c, X = 1 if the behaviour
at target-relative position p (1 is the newest) has category b, and Y is the label. The correlation is the mutual
information of X and Y in bits.

Legend: R samples, T target categories, C behaviour categories, P positions, I items.
"""

from __future__ import annotations

import numpy as np

from stemlab.array_types import AnyArray, Float64Array, Int64Array

RELEASED_SMOOTH = 1e-5
"""Replacement of zero counts in the released script."""


class CorrelationCounts:
    """Accumulated sample counts; the order of the samples does not matter.

    Args:
        member_IT: (I + 1, T) bool, target categories of the items; row 0 is padding and has none.
        member_IC: (I + 1, C) bool, behaviour categories of the items.
        positions: P.

    Attributes:
        with_TCPY: (T, C, P, 2) int64, samples with X = 1 by label.
        all_TPY: (T, P, 2) int64, samples with at least p behaviours, by label.
        total_TY: (T, 2) int64, all samples by label.
    """

    def __init__(self, member_IT: AnyArray, member_IC: AnyArray, positions: int) -> None:
        self._target_IT = np.asarray(member_IT, dtype=np.float32)
        self._member_IC = np.asarray(member_IC, dtype=np.float32)
        targets, categories = member_IT.shape[1], member_IC.shape[1]
        self.positions = positions
        self.with_TCPY = np.zeros((targets, categories, positions, 2), dtype=np.int64)
        self.all_TPY = np.zeros((targets, positions, 2), dtype=np.int64)
        self.total_TY = np.zeros((targets, 2), dtype=np.int64)

    def add(self, history_RL: AnyArray, length_R: AnyArray, target_R: AnyArray, label_R: AnyArray) -> None:
        """Add a batch of samples to the counts.

        Args:
            history_RL: (R, L) item ids, oldest first; columns after the length are ignored.
            length_R: (R,) history lengths.
            target_R: (R,) item ids of the targets.
            label_R: (R,) labels, 0 or 1.
        """
        item_RP = newest_first(history_RL, length_R, self.positions)
        present_RP = (item_RP > 0).astype(np.float32)
        x_RPC = self._member_IC[item_RP]
        for label in (0, 1):
            chosen = np.flatnonzero(np.asarray(label_R) == label)
            of_TR = self._target_IT[target_R[chosen]].T
            with_TPC = of_TR @ x_RPC[chosen].reshape(len(chosen), int(np.prod(x_RPC.shape[1:])))
            shape = (len(of_TR), *x_RPC.shape[1:])
            self.with_TCPY[..., label] += np.rint(with_TPC).astype(np.int64).reshape(shape).transpose(0, 2, 1)
            self.all_TPY[..., label] += np.rint(of_TR @ present_RP[chosen]).astype(np.int64)
            self.total_TY[:, label] += np.rint(of_TR.sum(axis=1)).astype(np.int64)

    def correlation(self, *, smooth: float = 0.0, reaching: bool = False) -> Float64Array:
        """Return (T, C, P) mutual information in bits; NaN where there is no sample.

        Args:
            smooth: replacement of zero counts; 0 is exact, ``RELEASED_SMOOTH`` reproduces the released script.
            reaching: whether only histories with at least p behaviours count. Otherwise shorter histories have X = 0,
                as in the released code; the result then also depends on the history length.
        """
        total_TPY = self.all_TPY if reaching else np.broadcast_to(self.total_TY[:, None], self.all_TPY.shape)
        return mutual_information(self.with_TCPY, total_TPY[:, None], smooth)


def newest_first(history_RL: AnyArray, length_R: AnyArray, positions: int) -> Int64Array:
    """Return (R, P) int64 items by target-relative position: column 0 is the newest; 0 beyond the history."""
    index_RP = np.asarray(length_R)[:, None] - 1 - np.arange(positions)
    found_RP = np.take_along_axis(np.asarray(history_RL, dtype=np.int64), index_RP.clip(min=0), axis=1)
    return np.where(index_RP >= 0, found_RP, 0)


def mutual_information(with_Y: AnyArray, total_Y: AnyArray, smooth: float = 0.0) -> Float64Array:
    """Return the mutual information of X and Y in bits, shape (...).

    Args:
        with_Y: (..., 2) samples with X = 1, by label.
        total_Y: (..., 2) all samples, by label; broadcast to ``with_Y``.
        smooth: replacement of zero counts in ``with_Y``.
    """
    with_Y = np.where(np.asarray(with_Y) == 0, smooth, with_Y).astype(np.float64)
    total_Y = np.broadcast_to(np.asarray(total_Y, dtype=np.float64), with_Y.shape)
    samples = total_Y.sum(-1)
    information = np.zeros(samples.shape)
    for label in (0, 1):
        for joint, marginal in (
            (with_Y[..., label], with_Y.sum(-1)),
            (total_Y[..., label] - with_Y[..., label], samples - with_Y.sum(-1)),
        ):
            information += _term(joint, marginal * total_Y[..., label], samples)
    return np.where(samples > 0, information, np.nan)


def _term(joint: Float64Array, margins: Float64Array, samples: Float64Array) -> Float64Array:
    """Return ``(n/s) log2(n s / margins)``; 0 where n is 0."""
    positive = joint > 0
    ratio = np.divide(joint * samples, margins, out=np.ones_like(joint), where=positive)
    share = np.divide(joint, samples, out=np.zeros_like(joint), where=positive)
    return share * np.log2(ratio)


def scaled(matrix: AnyArray) -> Float64Array:
    """Return the matrix scaled to [0, 1] by its minimum and maximum, as in the released code; 0 if they are equal."""
    low, high = np.nanmin(matrix), np.nanmax(matrix)
    return np.asarray((matrix - low) / (high - low) if high > low else np.zeros_like(matrix), dtype=np.float64)

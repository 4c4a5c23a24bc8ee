"""Category-wise target-aware correlation: what a behaviour of a category at a position says about the label.

"Temporal Interest Network" (WWW 2024, arXiv 2308.08487) and the released preprocessing; spec/recscope.md section 3.1.
Among samples whose target has category c, X = 1 where the behaviour at target-relative position p (the newest one is
1) has category b, Y = label: the correlation is their mutual information in bits.

Legend: R samples, T target categories, C behaviour categories, P positions, I items.
"""

from __future__ import annotations

import numpy as np

from stemlab.array_types import AnyArray, Float64Array, Int64Array

PUBLISHED_SMOOTH = 1e-5
"""What a count of zero becomes in the released script."""


class CorrelationCounts:
    """Counts from samples that arrive in pieces; their order does not matter.

    Args:
        member_IT: (I + 1, T) whether an item has a target category; row 0 is padding and has none.
        member_IC: (I + 1, C) the same for behaviour categories.
        positions: P.

    Attributes:
        with_TCPY: (T, C, P, 2) samples with X = 1 by label.
        all_TPY: (T, P, 2) samples whose history reaches position p, by label.
        total_TY: (T, 2) all samples by label.
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
        """Count samples.

        Args:
            history_RL: item ids, oldest first, anything behind the length.
            length_R: lengths.
            target_R: item ids.
            label_R: 0 or 1.
        """
        item_RP = newest_first(history_RL, length_R, self.positions)
        there_RP = (item_RP > 0).astype(np.float32)
        x_RPC = self._member_IC[item_RP]
        for label in (0, 1):
            chosen = np.flatnonzero(np.asarray(label_R) == label)
            of_TR = self._target_IT[target_R[chosen]].T
            with_TPC = of_TR @ x_RPC[chosen].reshape(len(chosen), int(np.prod(x_RPC.shape[1:])))
            shape = (len(of_TR), *x_RPC.shape[1:])
            self.with_TCPY[..., label] += np.rint(with_TPC).astype(np.int64).reshape(shape).transpose(0, 2, 1)
            self.all_TPY[..., label] += np.rint(of_TR @ there_RP[chosen]).astype(np.int64)
            self.total_TY[:, label] += np.rint(of_TR.sum(axis=1)).astype(np.int64)

    def correlation(self, *, smooth: float = 0.0, reaching: bool = False) -> Float64Array:
        """Return (T, C, P) mutual information in bits; nan where there is no sample.

        Args:
            smooth: what a count of zero becomes; 0 is exact, ``PUBLISHED_SMOOTH`` the released script.
            reaching: count only samples whose history reaches the position; else a shorter one is X = 0, as published,
                which mixes what a behaviour says with how long the history is.
        """
        total_TPY = self.all_TPY if reaching else np.broadcast_to(self.total_TY[:, None], self.all_TPY.shape)
        return mutual_information(self.with_TCPY, total_TPY[:, None], smooth)


def newest_first(history_RL: AnyArray, length_R: AnyArray, positions: int) -> Int64Array:
    """Return (R, P) items by target-relative position: column 0 is position 1, the newest; 0 beyond the history."""
    place_RP = np.asarray(length_R)[:, None] - 1 - np.arange(positions)
    found_RP = np.take_along_axis(np.asarray(history_RL, dtype=np.int64), place_RP.clip(min=0), axis=1)
    return np.where(place_RP >= 0, found_RP, 0)


def mutual_information(with_Y: AnyArray, total_Y: AnyArray, smooth: float = 0.0) -> Float64Array:
    """Return the mutual information of X and Y in bits.

    Args:
        with_Y: (..., 2) samples with X = 1 by label.
        total_Y: (..., 2) all samples by label, broadcast.
        smooth: what a count of zero in ``with_Y`` becomes.
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
    """``(n/s) log2(n s / margins)``, 0 where n is 0."""
    there = joint > 0
    ratio = np.divide(joint * samples, margins, out=np.ones_like(joint), where=there)
    share = np.divide(joint, samples, out=np.zeros_like(joint), where=there)
    return share * np.log2(ratio)


def scaled(matrix: AnyArray) -> Float64Array:
    """Return the matrix from 0 to 1 by its own extremes (all 0 where they are equal), as published."""
    low, high = np.nanmin(matrix), np.nanmax(matrix)
    return np.asarray((matrix - low) / (high - low) if high > low else np.zeros_like(matrix), dtype=np.float64)

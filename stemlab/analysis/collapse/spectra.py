"""Singular values of embedding tables, and statistics of them (docs/methods/recscope.md#information-abundance).

Tables with many rows use the eigenvalues of the Gram matrix, accumulated block by block in double precision: K x K
numbers in memory instead of V x K. A second pass in the eigenvector basis makes small singular values as accurate as
those of an SVD.

Legend: V rows, K width, r number of singular values.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from stemlab.array_types import AnyArray, Float64Array

_BLOCK = 1 << 16
_TALL = 1 << 12
"""Tables with at most this many rows use a direct SVD."""
_INEXACT = 1e-5
"""Singular values from a Gram matrix below this ratio to the largest are not accurate to six digits."""
_EPSILON = 1e-8


@dataclass(frozen=True)
class BlockwiseMatrix:
    """Matrix that is projected, normalised and weighted block by block.

    Attributes:
        weight_VK: (V, K) matrix.
        normalised: whether every row is divided by its L2 norm + 1e-8 (released notebook).
        scale_V: (V,) factors of the rows, applied last (square root of the count), or ``None``.
        map_KK: (K', K) projection; every row v becomes ``map_KK @ v`` before normalisation, or ``None``.
    """

    weight_VK: AnyArray
    normalised: bool = False
    scale_V: Float64Array | None = None
    map_KK: AnyArray | None = None

    def blocks(self) -> Iterator[Float64Array]:
        """Yield blocks of at most 65,536 rows, (B, K) float64."""
        for start in range(0, len(self.weight_VK), _BLOCK):
            rows_BK = self.weight_VK[start : start + _BLOCK].astype(np.float64)
            if self.map_KK is not None:
                rows_BK = rows_BK @ np.asarray(self.map_KK, dtype=np.float64).T
            if self.normalised:
                rows_BK /= np.linalg.norm(rows_BK, axis=1, keepdims=True) + _EPSILON
            if self.scale_V is not None:
                rows_BK *= self.scale_V[start : start + _BLOCK, None]
            yield rows_BK

    @property
    def width(self) -> int:
        """Number of columns after the projection."""
        return int(self.weight_VK.shape[1] if self.map_KK is None else self.map_KK.shape[0])


def singular_values(
    matrix: BlockwiseMatrix, *, tall: int = _TALL, advance: Callable[[int], None] = lambda rows: None
) -> Float64Array:
    """Return the min(V, K) singular values in descending order.

    Args:
        matrix: (V, K) matrix.
        tall: matrices with more rows use the Gram matrix.
        advance: progress callback; receives the number of rows of every block.
    """
    count = min(len(matrix.weight_VK), matrix.width)
    if len(matrix.weight_VK) <= tall:
        table = np.concatenate([*matrix.blocks(), np.zeros((0, matrix.width))])
        advance(len(table))
        return np.asarray(np.linalg.svd(table, compute_uv=False), dtype=np.float64)[:count]
    return _from_gram(matrix, advance)[:count]


def _from_gram(matrix: BlockwiseMatrix, advance: Callable[[int], None]) -> Float64Array:
    gram_KK = np.zeros((matrix.width, matrix.width))
    for block_BK in matrix.blocks():
        gram_KK += block_BK.T @ block_BK
        advance(len(block_BK))
    squares_K, directions_KK = np.linalg.eigh(gram_KK)
    values_K: Float64Array = np.sqrt(np.clip(squares_K, 0, None))[::-1]
    if values_K[0] == 0 or values_K[-1] > _INEXACT * values_K[0]:
        return values_K
    return _refined(matrix, directions_KK[:, ::-1])


def _refined(matrix: BlockwiseMatrix, directions_KK: Float64Array) -> Float64Array:
    """Return singular values in the eigenvector basis, whose columns are almost orthogonal.

    The error is then relative to the length of each column, not to the longest column.
    """
    gram_KK = np.zeros_like(directions_KK)
    for block_BK in matrix.blocks():
        rotated_BK = block_BK @ directions_KK
        gram_KK += rotated_BK.T @ rotated_BK
    length_K = np.sqrt(np.diag(gram_KK))
    kept_k = np.flatnonzero(length_K > 1e-14 * length_K[0])
    length_k = length_K[kept_k]
    cosines_kk = gram_KK[np.ix_(kept_k, kept_k)] / np.outer(length_k, length_k)
    try:
        factor_kk = np.linalg.cholesky(cosines_kk)
    except np.linalg.LinAlgError:  # some columns hold only rounding errors
        return np.sort(length_K)[::-1]
    found_k = np.linalg.svd(length_k[:, None] * factor_kk, compute_uv=False)
    return np.concatenate([found_k, np.zeros(len(length_K) - len(found_k))])


def normalised_spectrum(values_r: Float64Array, width: int) -> Float64Array:
    """Return s_j / s_1, padded with zeros to length K; all zeros for an all-zero table."""
    spectrum_K = np.zeros(width)
    if len(values_r) and values_r[0] > 0:
        spectrum_K[: len(values_r)] = values_r / values_r[0]
    return spectrum_K


def information_abundance(values_r: Float64Array) -> float:
    """Return the sum of the singular values divided by the largest (arXiv 2310.04400).

    1 for a table of rank 1, K if all singular values are equal, NaN for an all-zero table.
    """
    return float(values_r.sum() / values_r[0]) if len(values_r) and values_r[0] > 0 else float("nan")


def effective_rank(values_r: Float64Array) -> float:
    """Return exp of the entropy of s / sum(s); NaN for an all-zero table."""
    if not len(values_r) or values_r[0] <= 0:
        return float("nan")
    share_r = values_r[values_r > 0] / values_r.sum()
    return float(np.exp(-(share_r * np.log(share_r)).sum()))


def stable_rank(values_r: Float64Array) -> float:
    """Return sum(s^2) / s_1^2; NaN for an all-zero table."""
    return float((values_r**2).sum() / values_r[0] ** 2) if len(values_r) and values_r[0] > 0 else float("nan")


def numeric_rank(values_r: Float64Array, share: float = 0.01) -> int:
    """Return the number of singular values larger than ``share`` times the largest."""
    return int((values_r > share * values_r[0]).sum()) if len(values_r) else 0


def energy_share(values_r: Float64Array, top: int) -> float:
    """Return the share of sum(s^2) in the ``top`` largest singular values; NaN for an all-zero table."""
    total = float((values_r**2).sum())
    return float((values_r[:top] ** 2).sum() / total) if total > 0 else float("nan")

"""Scaling of numerical columns, fitted on training rows; missing values become the training mean."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from stemlab.array_types import Float32Array
from stemlab.errors import StemlabError

Scaling = Literal["none", "standard", "minmax"]


@dataclass(frozen=True, slots=True)
class Scaler:
    """Fitted scaling of a numerical column: (value - shift) / scale; missing values are replaced by the mean.

    Attributes:
        rule: ``none``, ``standard`` or ``minmax``.
        mean: mean of the training rows with a value.
        std: their population standard deviation.
        low: their smallest value.
        high: their largest value.
        missing: number of training rows without a value.
    """

    rule: Scaling
    mean: float
    std: float
    low: float
    high: float
    missing: int

    @classmethod
    def fit(cls, name: str, rule: Scaling, chunks: Iterable[Float32Array]) -> Scaler:
        """Fit the scaling in one pass over a column's training rows, in constant memory.

        Args:
            name: name of the column, for the error message.
            rule: scaling rule.
            chunks: training rows in chunks, float32, NaN for missing values.

        Raises:
            StemlabError: no training row has a value.
        """
        count, missing, mean, squares, low, high = 0, 0, 0.0, 0.0, math.inf, -math.inf
        for chunk in chunks:
            known = chunk[~np.isnan(chunk)].astype(np.float64)
            missing += len(chunk) - len(known)
            if not len(known):
                continue
            # Parallel variance (Chan, Golub, LeVeque 1979): numerically stable for any mean.
            part, total = float(known.mean()), count + len(known)
            squares += float(((known - part) ** 2).sum()) + (part - mean) ** 2 * count * len(known) / total
            mean += (part - mean) * len(known) / total
            low, high, count = min(low, float(known.min())), max(high, float(known.max())), total
        if not count:
            raise StemlabError(
                f"numerical column {name!r} has no value in any training row: remove it from dataset.numericals."
            )
        if low == high:  # rounding errors must not give a constant column a nonzero deviation
            return cls(rule, low, 0.0, low, high, missing)
        return cls(rule, mean, math.sqrt(squares / count), low, high, missing)

    def __call__(self, values: Float32Array) -> Float32Array:
        """Return scaled values, (B,) float32 without NaN; a constant column becomes 0 (unchanged under ``none``)."""
        known = np.where(np.isnan(values), self.mean, values.astype(np.float64))
        if self.rule == "standard":
            known = (known - self.mean) / (self.std or 1.0)
        elif self.rule == "minmax":
            known = (known - self.low) / (self.high - self.low or 1.0)
        return known.astype(np.float32)

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for the manifest."""
        return {
            "scaling": self.rule,
            "mean": self.mean,
            "std": self.std,
            "min": self.low,
            "max": self.high,
            "missing": self.missing,
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Scaler:
        """Rebuild a scaler from ``to_dict`` (other keys are ignored)."""
        names = ("scaling", "mean", "std", "min", "max", "missing")
        return cls(*(values[name] for name in names))


def check_finite(name: str, values: Float32Array) -> None:
    """Raise StemlabError if a value is infinite (NaN means missing)."""
    if np.isinf(values).any():
        raise StemlabError(
            f"numerical column {name!r} holds an infinite value: correct it or leave the cell empty (missing)."
        )

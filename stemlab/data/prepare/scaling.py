"""Numerical columns: scaling fitted on training rows, missing values replaced by the training mean."""

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
    """How a numerical column becomes an input: (value - shift) / scale; a missing one counts as the mean.

    Attributes:
        rule: ``none``, ``standard`` or ``minmax``.
        mean: of the training rows that have a value.
        std: their standard deviation (dividing by their number).
        low: their least value.
        high: their greatest value.
        missing: training rows without a value.
    """

    rule: Scaling
    mean: float
    std: float
    low: float
    high: float
    missing: int

    @classmethod
    def fit(cls, name: str, rule: Scaling, chunks: Iterable[Float32Array]) -> Scaler:
        """Look once at a column's training rows, in constant memory.

        Args:
            name: the column, for the message.
            rule: what to do with it.
            chunks: its training rows chunk by chunk, NaN for missing ones.

        Raises:
            StemlabError: no training row has a value.
        """
        count, missing, mean, squares, low, high = 0, 0, 0.0, 0.0, math.inf, -math.inf
        for chunk in chunks:
            known = chunk[~np.isnan(chunk)].astype(np.float64)
            missing += len(chunk) - len(known)
            if not len(known):
                continue
            # Means and squares of parts are joined (Chan, Golub, LeVeque 1979): stable wherever the column lies.
            part, total = float(known.mean()), count + len(known)
            squares += float(((known - part) ** 2).sum()) + (part - mean) ** 2 * count * len(known) / total
            mean += (part - mean) * len(known) / total
            low, high, count = min(low, float(known.min())), max(high, float(known.max())), total
        if not count:
            raise StemlabError(f"numerical column {name!r} has no value in any training row: leave it out.")
        if low == high:  # rounding must not make a constant column look spread
            return cls(rule, low, 0.0, low, high, missing)
        return cls(rule, mean, math.sqrt(squares / count), low, high, missing)

    def __call__(self, values: Float32Array) -> Float32Array:
        """Return (B,) values as inputs, float32 without NaN; a constant column becomes 0 (``none``: itself)."""
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
    """Raise StemlabError where a value is infinite (NaN means missing)."""
    if np.isinf(values).any():
        raise StemlabError(f"numerical column {name!r} holds an infinite value: mend it or leave it empty (missing).")

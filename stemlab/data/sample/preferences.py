"""Shared parts of the generators: popularity, preference vectors, label probabilities, label draws.

Legend: U users, I items, R rows, L latent dimensions.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from stemlab.array_types import Float64Array, Int64Array


@dataclass(frozen=True, slots=True)
class PreferenceVectors:
    """Preference vectors of unit variance: column 0 is the main effect, the others give the pair effect.

    Attributes:
        user: (U, 1 + L).
        item: (I, 1 + L).
    """

    user: Float64Array
    item: Float64Array

    @classmethod
    def draw(cls, rng: np.random.Generator, users: int, items: int, latent_dim: int) -> PreferenceVectors:
        """Draw independent standard normal vectors."""
        width = 1 + latent_dim
        return cls(rng.standard_normal((users, width)), rng.standard_normal((items, width)))

    def rotated_towards(self, other: PreferenceVectors, share: float) -> PreferenceVectors:
        """Return these vectors rotated towards ``other`` by ``share`` of a right angle; expected norms are kept."""
        return PreferenceVectors(rotate(self.user, other.user, share), rotate(self.item, other.item, share))

    def logits(self, user_R: Int64Array, item_R: Int64Array, main_effect: float) -> Float64Array:
        """Return the logit of each (user, item) pair, (R,), with unit variance over random pairs.

        Args:
            user_R: (R,) row indices of ``user``.
            item_R: (R,) row indices of ``item``.
            main_effect: share of the variance due to the main effects of users and items.
        """
        main = (self.user[user_R, 0] + self.item[item_R, 0]) / np.sqrt(2)
        latent_dim = self.user.shape[1] - 1
        pair = np.einsum("rl,rl->r", self.user[user_R, 1:], self.item[item_R, 1:]) / np.sqrt(latent_dim)
        logit_R: Float64Array = np.sqrt(main_effect) * main + np.sqrt(1 - main_effect) * pair
        return logit_R


def zipf_ids(rng: np.random.Generator, count: int, rows: int, exponent: float) -> Int64Array:
    """Draw ``rows`` ids from 0 to ``count`` - 1, id k with weight (k + 1) ** -exponent."""
    weight = np.arange(1, count + 1, dtype=np.float64) ** -exponent
    return np.searchsorted(np.cumsum(weight) / weight.sum(), rng.random(rows), side="right").clip(max=count - 1)


def rotate(old: Float64Array, new: Float64Array, share: float) -> Float64Array:
    """Return ``old`` rotated towards ``new`` by ``share`` of a right angle; the expected norm is kept."""
    angle = share * np.pi / 2
    rotated: Float64Array = np.cos(angle) * old + np.sin(angle) * new
    return rotated


def probability(logit_R: Float64Array, rate: float, weight_R: Float64Array | None = None) -> Float64Array:
    """Return the probabilities of logits shifted so that the mean probability is ``rate`` (bisection).

    Args:
        logit_R: (R,) logits.
        rate: the mean.
        weight_R: (R,) weights of the mean, e.g. the probability of a click that must come first.
    """
    low, high = -50.0, 50.0
    for _ in range(60):
        middle = (low + high) / 2
        mean = float(np.average(1 / (1 + np.exp(-(logit_R + middle))), weights=weight_R))
        low, high = (middle, high) if mean < rate else (low, middle)
    probability_R: Float64Array = 1 / (1 + np.exp(-(logit_R + low)))
    return probability_R


def draw_labels(rng: np.random.Generator, probability_R: Float64Array) -> Int64Array:
    """Draw a Bernoulli label, 0 or 1, for each probability, (R,)."""
    return (rng.random(len(probability_R)) < probability_R).astype(np.int64)

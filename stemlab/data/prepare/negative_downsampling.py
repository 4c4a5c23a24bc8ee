"""Negative downsampling: keep all positives of a label and an exact number of randomly drawn negatives."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from stemlab.array_types import BoolArray, IntegerArray
from stemlab.data.prepare.dtypes import to_small_codes

_STEP = 1 << 20


@dataclass(frozen=True, kw_only=True)
class DownsamplingRule:
    """Settings of negative downsampling.

    Attributes:
        label: column of 0 and 1; every row with 1 is kept.
        negatives: number of negatives kept per positive, in each scenario (all of them if there are fewer).
        seed: seed of the draw.
    """

    label: str
    negatives: int
    seed: int


def draw_negatives(
    labels: Iterable[IntegerArray],
    rows: int,
    sampling: DownsamplingRule,
    scenarios: Iterable[IntegerArray] | None = None,
) -> BoolArray:
    """Return the mask of kept rows; every set of that many negatives is equally likely.

    Selection sampling in blocks of rows: the number of negatives kept in a block is hypergeometric, their choice is
    uniform. The draw is independent of the chunk sizes and takes five bytes per row.

    Args:
        labels: label column in chunks; read once.
        rows: number of rows.
        sampling: the settings.
        scenarios: scenario ids (0 to 254) in chunks; ``None``: one scenario.

    Returns:
        (rows,) bool.
    """
    positive: BoolArray = to_small_codes(labels, rows) != 0
    scenario = np.zeros(rows, dtype=np.uint8) if scenarios is None else to_small_codes(scenarios, rows)
    kept: BoolArray = positive.copy()
    rng = np.random.default_rng(sampling.seed)
    for code in range(int(scenario.max(initial=0)) + 1):
        inside = scenario == code
        wanted = sampling.negatives * int(np.count_nonzero(positive & inside))
        _draw(kept, inside & ~positive, wanted, rng)
    return kept


def _draw(kept: BoolArray, candidates: BoolArray, wanted: int, rng: np.random.Generator) -> None:
    """Set ``kept`` for ``wanted`` random candidates (for all of them if there are fewer)."""
    left = int(np.count_nonzero(candidates))
    wanted = min(wanted, left)
    for start in range(0, len(kept), _STEP):
        positions = np.flatnonzero(candidates[start : start + _STEP])
        if len(positions):
            taken = int(rng.hypergeometric(wanted, left - wanted, len(positions)))
            kept[start + rng.choice(positions, taken, replace=False, shuffle=False)] = True
            wanted, left = wanted - taken, left - len(positions)
